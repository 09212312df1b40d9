-- How much of a limit is used: a running sum of usage_day over one period, which it always equals.
create table limit_state (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  period_start date not null,
  period_end date not null,
  limit_quantity bigint not null,
  thresholds int[] not null,
  used bigint not null,
  -- The next threshold in units of the meter; null if none is left.
  next_quantity bigint,
  is_over boolean generated always as (used >= limit_quantity) stored,
  -- The version in the order of computation. Readers ask for states that are newer than those they
  -- know. Merges may commit in another order, so readers read all states once in a while.
  version bigint not null,
  primary key (license_id, meter, period_start)
) with (fillfactor = 70);

create index limit_state_over on limit_state (license_id, meter) where is_over;

create index limit_state_made on limit_state (version);
