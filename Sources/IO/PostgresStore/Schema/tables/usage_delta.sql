-- Usage that merges have added to usage_day and that no fold has added to the totals.
create table usage_delta (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  day date not null,
  quantity bigint not null,
  event_count bigint not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);
