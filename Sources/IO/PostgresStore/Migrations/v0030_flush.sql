-- A flush ends with a few small functions. Each of them is called only if it has something to do.
-- Before, every flush sent the 27 arguments of flush_commit, most of them empty.
--
-- flush_commit stays, because older processes call it while they run beside newer ones during an
-- upgrade.

update schema_version set version = 30;

-- The compare-and-set of a flush: moves the offsets of partitions that the process has claimed and
-- that stand where it believes, in the epoch that it believes. It comes first in the message that
-- COMMIT ends, so its locks live for one round trip. A last offset of -1 says that no record is
-- remembered. Raises MM001 with all other partitions, as JSON in DETAIL.
create function flush_offsets(
  flush_group text, flush_topic text, owner text, epochs int[], partitions int[],
  expected bigint[], next bigint[], last_offsets bigint[], last_hashes bigint[]
) returns void language plpgsql as $$
declare
  updated int[];
begin
  with locked as (
    select o.partition from consumer_offset o
    where o.consumer_group = flush_group and o.topic = flush_topic
      and o.partition = any (partitions)
    order by o.partition for update
  ), moved as (
    update consumer_offset o set next_offset = f.next,
      last_record_offset = nullif(f.last_offset, -1),
      last_record_hash = case when f.last_offset = -1 then null else f.last_hash end,
      updated_at = now()
    from unnest(epochs, partitions, expected, next, last_offsets, last_hashes)
      as f(epoch, partition, expected, next, last_offset, last_hash), locked l
    where o.consumer_group = flush_group and o.topic = flush_topic and o.partition = f.partition
      and l.partition = f.partition
      and o.next_offset = f.expected and o.claimed_by = owner and o.log_epoch = f.epoch
    returning o.partition
  ) select coalesce(array_agg(partition), '{}') into updated from moved;
  if cardinality(updated) <> cardinality(partitions) then
    raise exception 'partitions were taken over' using errcode = 'MM001', detail = (
      select json_agg(p)::text from unnest(partitions) p where p <> all (updated));
  end if;
end $$;

-- Stores what producers say about themselves, behind the compare-and-set of the same flush. Of
-- several reports by one producer, the one with the most accepted events is kept.
create function flush_reports(
  flush_group text, flush_topic text, epoch int, producers text[], accepted bigint[],
  pending bigint[], dropped bigint[], finals boolean[], reported_ats timestamptz[]
) returns void language sql as $$
  insert into producer_report as r (
    consumer_group, topic, producer, accepted, pending, dropped, final, reported_at, log_epoch)
  select distinct on (u.producer) flush_group, flush_topic, u.producer, u.accepted, u.pending,
    u.dropped, u.final, u.reported_at, epoch
  from unnest(producers, accepted, pending, dropped, finals, reported_ats) with ordinality
    as u(producer, accepted, pending, dropped, final, reported_at, place)
  order by u.producer, u.accepted desc, u.place desc
  on conflict (consumer_group, topic, producer) do update set
    accepted = excluded.accepted, pending = excluded.pending, dropped = excluded.dropped,
    final = excluded.final, reported_at = excluded.reported_at, log_epoch = excluded.log_epoch,
    log_ends = null, judged_at = null
  -- A report that was sent again is older than the stored one.
  where excluded.accepted >= r.accepted and excluded.reported_at >= r.reported_at
$$;

-- Marks the dead letters whose requeued records this flush counts, behind its compare-and-set.
-- Raises MM002 if one of them is marked already, because its record would count twice.
create function flush_requeued(
  epochs int[], topics text[], partitions int[], log_offsets bigint[]
) returns void language plpgsql as $$
declare
  counted_rows bigint;
begin
  update dead_letter d set counted_at = now()
  from unnest(epochs, topics, partitions, log_offsets) q(epoch, topic, partition, log_offset)
  where d.topic = q.topic and d.partition = q.partition and d.log_offset = q.log_offset
    and d.log_epoch = q.epoch and d.counted_at is null;
  get diagnostics counted_rows = row_count;
  if counted_rows <> cardinality(log_offsets) then
    raise exception 'a requeued dead letter was counted before' using errcode = 'MM002';
  end if;
end $$;
