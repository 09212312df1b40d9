-- Up to which place in the log everything of a partition is merged: no row of usage_pending that a
-- snapshot sees has a place before the one that the same snapshot sees here. Readers and merges begin
-- there, and pass by what is deleted and cannot be removed yet. A partition without a row is walked
-- over whole.
create table usage_merged (
  partition int primary key constraint usage_merged_partition_exists check (partition >= 0),
  log_epoch int not null,
  next_offset bigint not null
) with (fillfactor = 25, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
