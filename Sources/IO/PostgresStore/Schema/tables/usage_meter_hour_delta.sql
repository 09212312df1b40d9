-- Usage that merges have added to the hours of meters and that no fold has moved to
-- usage_meter_hour.
create table usage_meter_hour_delta (
  hour timestamptz not null,
  meter text collate "C" not null,
  quantity numeric not null,
  event_count bigint not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
