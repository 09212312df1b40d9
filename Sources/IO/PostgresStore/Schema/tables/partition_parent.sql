-- A grown topic has twice the partitions, and partition p + n has keys that were in partition p
-- before. The child's window continues the parent's: the child's record at first_offset + i has the
-- same distance to the parent's record at parent_offset - k as if it were at parent_offset + i.
-- Readers need the row until the child has filled a window by itself. It is kept, because a recount
-- needs it for as long as the log reaches back.
create table partition_parent (
  consumer_group text collate "C" not null,
  topic text collate "C" not null,
  partition int not null,
  log_epoch int not null,
  -- The first offset of the child that counts.
  first_offset bigint not null,
  parent_partition int not null,
  -- The child inherits the parent's records before this offset.
  parent_offset bigint not null,
  grown_at timestamptz not null default now(),
  primary key (consumer_group, topic, partition, log_epoch)
);
