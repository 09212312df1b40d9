
-- A recount that cannot read the log from its beginning must know which sequences its producers had
-- reached where it starts. Checkpoints hold them: one where the count of an epoch begins (written by
-- triggers, so processes of earlier builds leave them too), and one every ten minutes.

update schema_version set version = 19;

-- What a partition knew of its producers when it had been counted up to `next_offset`: a recount that cannot read the
-- log from its beginning starts from one of these. The arrays have an element for each producer, those heard least
-- recently first.
create table audit_checkpoint (
  consumer_group text collate "C" not null,
  topic text collate "C" not null,
  partition int not null,
  log_epoch int not null,
  next_offset bigint not null,
  -- The count of this epoch began here, so that no earlier record is in the dedupe window (except for those that a
  -- partition of a grown topic inherits).
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

-- What each partition knows of its producers now, as a checkpoint holds it.
create view audit_producers as
select consumer_group, topic, partition,
  array_agg(producer order by forgotten desc, last_offset, producer) as producers,
  array_agg(sequence order by forgotten desc, last_offset, producer) as sequences,
  array_agg(dead_sequence order by forgotten desc, last_offset, producer) as dead_sequences,
  array_agg(counted order by forgotten desc, last_offset, producer) as counted,
  array_agg(duplicates order by forgotten desc, last_offset, producer) as duplicates,
  array_agg(repeated order by forgotten desc, last_offset, producer) as repeated,
  array_agg(dead_lettered order by forgotten desc, last_offset, producer) as dead_lettered,
  array_agg(forgotten order by forgotten desc, last_offset, producer) as forgotten
from producer_sequence group by 1, 2, 3;

-- Writes what a partition knows of its producers now, as of `at_offset`.
create function audit_checkpoint_write(
  of_group text, of_topic text, of_partition int, of_epoch int, at_offset bigint, begins boolean
) returns void language sql as $$
  insert into audit_checkpoint as c (consumer_group, topic, partition, log_epoch, next_offset,
    begins_epoch, producers, sequences, dead_sequences, counted, duplicates, repeated,
    dead_lettered, forgotten)
  select of_group, of_topic, of_partition, of_epoch, at_offset, begins,
    coalesce(p.producers, '{}'), coalesce(p.sequences, '{}'), coalesce(p.dead_sequences, '{}'),
    coalesce(p.counted, '{}'), coalesce(p.duplicates, '{}'), coalesce(p.repeated, '{}'),
    coalesce(p.dead_lettered, '{}'), coalesce(p.forgotten, '{}')
  from (select 1) one left join audit_producers p
    on p.consumer_group = of_group and p.topic = of_topic and p.partition = of_partition
  on conflict (consumer_group, topic, partition, log_epoch, next_offset) do update set
    begins_epoch = excluded.begins_epoch, taken_at = excluded.taken_at,
    producers = excluded.producers, sequences = excluded.sequences,
    dead_sequences = excluded.dead_sequences, counted = excluded.counted,
    duplicates = excluded.duplicates, repeated = excluded.repeated,
    dead_lettered = excluded.dead_lettered, forgotten = excluded.forgotten
$$;

-- Runs at the end of the transaction that gave a partition its first offset in an epoch, or set its offset back: the
-- producers may be written behind the offset. What was known of offsets that will be counted again holds no more.
create function audit_checkpoint_begin() returns trigger language plpgsql as $$
begin
  delete from audit_checkpoint c
  where c.consumer_group = new.consumer_group and c.topic = new.topic
    and c.partition = new.partition and c.log_epoch = new.log_epoch
    and c.next_offset > new.next_offset;
  perform audit_checkpoint_write(new.consumer_group, new.topic, new.partition, new.log_epoch,
    new.next_offset,
    tg_op = 'INSERT' or old.log_epoch <> new.log_epoch or old.next_offset < 0);
  return null;
end $$;

-- Takes a checkpoint of each partition that has moved since its newest one, if that is at least as old as `every`. One
-- statement reads both the offsets and the producers, which flushes change together, so they belong together. Answers
-- how many were taken; 0 where another process takes them.
create function audit_checkpoint_take(of_group text, of_topic text, every interval) returns bigint
language plpgsql as $$
declare
  taken bigint;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('audit checkpoint ' || of_group || ' ' || of_topic, 0))
  then return 0; end if;
  insert into audit_checkpoint (consumer_group, topic, partition, log_epoch, next_offset,
    begins_epoch, producers, sequences, dead_sequences, counted, duplicates, repeated,
    dead_lettered, forgotten)
  select o.consumer_group, o.topic, o.partition, o.log_epoch, o.next_offset, false,
    coalesce(p.producers, '{}'), coalesce(p.sequences, '{}'), coalesce(p.dead_sequences, '{}'),
    coalesce(p.counted, '{}'), coalesce(p.duplicates, '{}'), coalesce(p.repeated, '{}'),
    coalesce(p.dead_lettered, '{}'), coalesce(p.forgotten, '{}')
  from consumer_offset o
  left join lateral (
    select c.next_offset, c.taken_at from audit_checkpoint c
    where c.consumer_group = o.consumer_group and c.topic = o.topic and c.partition = o.partition
      and c.log_epoch = o.log_epoch
    order by c.next_offset desc limit 1
  ) newest on true
  left join audit_producers p on p.consumer_group = o.consumer_group and p.topic = o.topic
    and p.partition = o.partition
  where o.consumer_group = of_group and o.topic = of_topic and o.next_offset >= 0
    and (newest.next_offset is null
      or newest.next_offset < o.next_offset and newest.taken_at <= now() - every)
  on conflict do nothing;
  get diagnostics taken = row_count;
  return taken;
end $$;

-- Removes checkpoints that no recount can start from, since the log does not reach back to them, and thins the rest:
-- the first of each ten minutes stays for a day, after that the first of each day. The newest one of a partition always
-- stays. Answers how many were removed.
--
-- lows: the low watermark of each partition.
create function audit_checkpoint_retain(of_group text, of_topic text, partitions int[], lows bigint[])
returns bigint language plpgsql as $$
declare
  removed bigint;
begin
  with placed as (
    select c.partition, c.log_epoch, c.next_offset, o.log_epoch = c.log_epoch as is_of_this_log,
      c.next_offset >= coalesce(l.low, 0) as is_readable,
      max(c.next_offset) over (partition by c.partition, c.log_epoch) as newest,
      row_number() over (
        partition by c.partition, c.log_epoch, c.next_offset >= coalesce(l.low, 0),
          case when c.taken_at > now() - interval '1 day'
            then date_bin('10 minutes', c.taken_at, '2000-01-01 00:00:00Z')
            else date_trunc('day', c.taken_at, 'UTC') end
        order by c.next_offset) as place
    from audit_checkpoint c
    join consumer_offset o using (consumer_group, topic, partition)
    left join unnest(partitions, lows) l(partition, low) on l.partition = c.partition
    where c.consumer_group = of_group and c.topic = of_topic
  )
  delete from audit_checkpoint c using placed p
  where c.consumer_group = of_group and c.topic = of_topic and c.partition = p.partition
    and c.log_epoch = p.log_epoch and c.next_offset = p.next_offset
    and (not p.is_of_this_log
      or c.next_offset < p.newest and (not p.is_readable or p.place > 1));
  get diagnostics removed = row_count;
  return removed;
end $$;

create constraint trigger audit_checkpoint_of_first_offset
  after insert on consumer_offset deferrable initially deferred for each row
  when (new.next_offset >= 0) execute function audit_checkpoint_begin();

create constraint trigger audit_checkpoint_of_offset_set
  after update on consumer_offset deferrable initially deferred for each row
  when (new.next_offset >= 0 and (new.log_epoch <> old.log_epoch or old.next_offset < 0
    or new.next_offset < old.next_offset))
  execute function audit_checkpoint_begin();
