-- What a partition knew about its producers when it had been counted up to `next_offset`. A recount
-- that cannot read the log from its beginning starts from one of these. The arrays have one element
-- for each producer, those heard least recently first.
create table audit_checkpoint (
  consumer_group text collate "C" not null,
  topic text collate "C" not null,
  partition int not null,
  log_epoch int not null,
  next_offset bigint not null,
  -- Counting of this epoch began here, so the dedupe window contains no earlier record (except
  -- those that a partition of a grown topic inherits).
  begins_epoch boolean not null,
  taken_at timestamptz not null default now(),
  producers text[] not null,
  sequences bigint[] not null,
  dead_sequences bigint[] not null,
  counted bigint[] not null,
  duplicates bigint[] not null,
  repeated bigint[] not null,
  dead_lettered bigint[] not null,
  -- The partition no longer remembers the sequences.
  forgotten boolean[] not null,
  constraint audit_checkpoint_arrays_are_of_one_length check (
    cardinality(producers) = cardinality(sequences)
    and cardinality(producers) = cardinality(dead_sequences)
    and cardinality(producers) = cardinality(counted)
    and cardinality(producers) = cardinality(duplicates)
    and cardinality(producers) = cardinality(repeated)
    and cardinality(producers) = cardinality(dead_lettered)
    and cardinality(producers) = cardinality(forgotten)),
  primary key (consumer_group, topic, partition, log_epoch, next_offset)
);
