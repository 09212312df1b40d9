create table usage_day (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  day date not null,
  quantity bigint not null,
  event_count bigint not null,
  dimensions text not null,
  dimensions_compacted int not null default 0,
  written_at timestamptz not null default now(),
  -- The bit of each hour of the day (0: midnight) whose row was dropped by retention.
  hours_gone int not null default 0,
  -- A license-day beyond this is quarantined (usage_quarantine), because a period's sum must fit 64
  -- bits.
  constraint usage_day_fits check (quantity <= 100000000000000000),
  primary key (license_id, meter, day)
) partition by range (day);
