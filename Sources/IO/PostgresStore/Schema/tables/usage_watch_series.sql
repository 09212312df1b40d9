-- The watched totals, each with its detector's state, whose content SQL does not know; empty at
-- first. An empty customer stands for the meter's calls by all customers.
create table usage_watch_series (
  customer_id text collate "C" not null,
  meter text collate "C" not null,
  state bytea not null default '',
  -- Whether an anomaly is in progress.
  is_open boolean not null default false,
  primary key (customer_id, meter)
) with (fillfactor = 70);
