-- A partition's state as of `next_offset`, in pieces of at most 1 MiB whose content SQL does not
-- know. A checkpoint appends the new pieces and removes the old ones in the transaction that moves
-- the offset, so that there is never a state that belongs to another offset. The index is
-- deliberately not unique: see dead_letter_by_place.
create table detector_state (
  consumer_group text not null,
  topic text not null,
  partition int not null,
  log_epoch int not null,
  next_offset bigint not null,
  piece int not null,
  state bytea not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

create index detector_state_by_partition on detector_state (consumer_group, topic, partition);

-- Counts and levels do not compress, and trying costs more than it saves.
alter table detector_state alter column state set storage external;
