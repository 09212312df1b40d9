create table usage_license_period (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  period_start date not null,
  period_end date not null,
  quantity bigint not null,
  event_count bigint not null,
  constraint usage_license_period_ends_later check (period_start < period_end),
  primary key (license_id, meter, period_start)
) with (fillfactor = 70);

create index usage_license_period_by_end on usage_license_period (period_end);
