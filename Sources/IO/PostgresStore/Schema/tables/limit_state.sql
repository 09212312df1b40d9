-- How much of a limit is used: a running sum of usage_day over one period, always equal to it.
create table limit_state (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  period_start date not null,
  period_end date not null,
  limit_quantity bigint not null,
  thresholds int[] not null,
  used bigint not null,
  -- The next threshold in units of the meter; null: none is left.
  next_quantity bigint,
  is_over boolean generated always as (used >= limit_quantity) stored,
  -- Of the making: readers ask for what is newer than they know. Merges may commit out of this order, so now and then they read all.
  version bigint not null,
  primary key (license_id, meter, period_start)
) with (fillfactor = 70);

create index limit_state_over on limit_state (license_id, meter) where is_over;

create index limit_state_made on limit_state (version);
