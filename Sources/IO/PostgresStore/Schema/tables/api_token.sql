-- Bearer tokens. Only their SHA-256 is stored, so that somebody who reads the database cannot use
-- them.
create table api_token (
  token_id text collate "C" primary key,
  name text not null,
  token_hash bytea not null unique check (octet_length(token_hash) = 32),
  scopes text[] not null,
  -- Null for the vendor's own tokens.
  customer_id text references customer,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  revoked_at timestamptz
);

create index api_token_by_customer on api_token (customer_id);

create trigger api_token_changed after update or delete on api_token
  for each statement execute function api_token_notify();
