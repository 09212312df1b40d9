-- The totals that are watched, each with what its detector knows, opaque to SQL; empty: nothing yet. An empty customer stands for the
-- meter's calls of all customers.
create table usage_watch_series (
  customer_id text collate "C" not null,
  meter text collate "C" not null,
  state bytea not null default '',
  -- Whether an anomaly is going on.
  is_open boolean not null default false,
  primary key (customer_id, meter)
) with (fillfactor = 70);
