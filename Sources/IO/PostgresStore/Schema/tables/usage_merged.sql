-- The place in the log up to which all events of a partition are merged. In every snapshot, no row
-- of usage_pending or usage_pending_recent has a place before the mark. Readers of usage_pending and
-- merges begin at the mark, so they pass by rows that are deleted but cannot be removed yet. A
-- partition without a row here is read whole.
create table usage_merged (
  partition int primary key constraint usage_merged_partition_exists check (partition >= 0),
  log_epoch int not null,
  next_offset bigint not null
) with (fillfactor = 25, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
