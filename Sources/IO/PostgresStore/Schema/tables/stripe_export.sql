-- What was exported to Stripe: one row for each customer, meter and UTC hour, summed over the
-- customer's licenses. A row is here before its first event is sent.
--
--   (nothing) ─► pending ─► sent ─► pending …     more was counted
--                   │        └────► credit        less was counted than Stripe has
--                   ├─► refused ─► pending        the next export tries again
--                   └─► unsettled                 no answer, and Stripe's sum fits neither
--   (nothing) ─► unlinked, too_old, too_large, shared
create table stripe_export (
  customer_id text collate "C" not null,
  meter text collate "C" not null,
  hour timestamptz not null,
  status text not null constraint stripe_export_has_known_status check (status in
    ('pending', 'sent', 'credit', 'unlinked', 'too_old', 'too_large', 'shared', 'refused', 'unsettled')),
  mode text constraint stripe_export_has_known_mode check (mode in ('sum', 'replace')),
  -- The customer of the last event.
  stripe_customer_id text,
  event_name text,
  -- The quantity that was counted when it was last checked.
  quantity bigint not null,
  -- The quantity that Stripe has.
  accepted bigint not null default 0,
  -- The number of the last event; 0 if there was none.
  revision bigint not null default 0,
  -- Why Stripe refused, or what its sum is.
  detail text,
  updated_at timestamptz not null default now(),
  primary key (customer_id, meter, hour),
  constraint stripe_export_with_event_is_addressed check (
    revision = 0 or (mode is not null and stripe_customer_id is not null and event_name is not null))
);

create index stripe_export_by_hour on stripe_export (hour, customer_id, meter);

-- Finds the rows that somebody must look at.
create index stripe_export_by_status on stripe_export (status, hour, customer_id, meter) where status <> 'sent';

create index stripe_export_by_place on stripe_export (event_name, stripe_customer_id, hour);
