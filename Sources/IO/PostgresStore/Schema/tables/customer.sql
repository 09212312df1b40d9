create table customer (
  customer_id text primary key,
  name text not null,
  stripe_customer_id text,
  created_at timestamptz not null default now()
);
