-- Rows that flushes append and merges take away: one for each license, meter and hour of a flush.
-- `minutes` and `dimensions` hold the parts as JSON array elements joined by commas, without the
-- outer brackets, so that merging is concatenation:
--   minutes:    [minute_of_hour, quantity, event_count]
--   dimensions: ["domain" | "feature", value, quantity, event_count]
create table usage_pending (
  log_epoch int not null,
  partition int not null,
  license_id text collate "C" not null,
  meter text collate "C" not null,
  hour timestamptz not null,
  first_offset bigint not null,
  last_offset bigint not null,
  quantity bigint not null,
  event_count bigint not null,
  minutes text not null,
  dimensions text not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100000, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);

-- The order is that of the log, for readers and merges that begin where usage_merged says. Rows of
-- a partition come at its end, one after the other.
create index usage_pending_by_place on usage_pending (partition, log_epoch, first_offset);
