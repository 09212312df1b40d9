-- pending ──► delivered
--    │  ▲└──► failed      the last retry failed
--    │  └──── any end: redeliver, recover
--    └──────► discarded   its endpoint was disabled
create table webhook_delivery (
  delivery_id bigint generated always as identity primary key,
  alert_id bigint not null references alert on delete cascade,
  endpoint_id text collate "C" not null references webhook_endpoint on delete cascade,
  -- The same on every try. Receivers recognize a repetition by it.
  webhook_id text not null,
  status text not null default 'pending' check (status in ('pending', 'delivered', 'failed', 'discarded')),
  -- All attempts ever made. retry_step counts those since the last redelivery, which is the place
  -- in the retry schedule.
  attempts int not null default 0 check (attempts >= 0),
  retry_step int not null default 0 check (retry_step >= 0),
  -- A claim moves this to the end of its lease, so that another dispatcher takes the deliveries of
  -- one that dies.
  next_attempt_at timestamptz default now(),
  -- The lease of the current claim. Results of an older claim schedule nothing.
  lease bigint,
  created_at timestamptz not null default now(),
  finished_at timestamptz,
  unique (alert_id, endpoint_id),
  constraint webhook_delivery_pending_has_next_attempt check ((status = 'pending') = (next_attempt_at is not null)),
  constraint webhook_delivery_ended_has_time check ((status = 'pending') = (finished_at is null)),
  constraint webhook_delivery_leased_is_pending check (status = 'pending' or lease is null)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_scale_factor = 0.1);

-- For claims: one step leads to each endpoint with pending deliveries, and to its first due one. A
-- million pending deliveries of one endpoint cost the others nothing, which an index by time alone
-- could not achieve.
create index webhook_delivery_pending on webhook_delivery (endpoint_id, next_attempt_at)
  where status = 'pending';

create index webhook_delivery_by_endpoint on webhook_delivery (endpoint_id, created_at)
  where status <> 'pending';

-- Finds a webhook-id, which receivers quote.
create index webhook_delivery_by_webhook_id on webhook_delivery (webhook_id);

-- Lists an endpoint's deliveries, newest first, on a customer's pages.
create index webhook_delivery_newest on webhook_delivery (endpoint_id, delivery_id);
