-- The end of a flush as aggregators and detectors of schema 28 and older call it. Newer ones call
-- flush_offsets, flush_reports, flush_requeued and flush_producers instead. This function stays,
-- because older processes run beside newer ones during an upgrade; a later release drops it.
-- It raises MM001 as flush_offsets does, and MM002 as flush_requeued does.
create function flush_commit(
  flush_group text, flush_topic text, owner text, epochs int[],
  partitions int[], expected bigint[], next bigint[], last_offsets bigint[], last_hashes bigint[],
  producer_partitions int[], producers text[], sequences bigint[], dead_sequences bigint[], counted bigint[],
  duplicates bigint[], repeated bigint[], dead_lettered bigint[],
  report_producers text[], accepted bigint[], pending bigint[], dropped bigint[], finals boolean[],
  reported_ats timestamptz[],
  requeued_epochs int[], requeued_topics text[], requeued_partitions int[], requeued_offsets bigint[]
) returns void language plpgsql as $$
declare
  updated int[];
  counted_rows bigint;
begin
  with locked as (
    select o.partition from consumer_offset o
    where o.consumer_group = flush_group and o.topic = flush_topic and o.partition = any (partitions)
    order by o.partition for update
  ), moved as (
    update consumer_offset o set next_offset = f.next, last_record_offset = nullif(f.last_offset, -1),
      last_record_hash = case when f.last_offset = -1 then null else f.last_hash end, updated_at = now()
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
  if cardinality(producers) > 0 then
    insert into producer_sequence as s (consumer_group, topic, partition, producer, sequence, dead_sequence,
      counted, duplicates, repeated, dead_lettered)
    select flush_group, flush_topic, u.* from unnest(producer_partitions, producers, sequences, dead_sequences,
      counted, duplicates, repeated, dead_lettered) u
    on conflict (consumer_group, topic, partition, producer) do update set
      sequence = excluded.sequence, dead_sequence = excluded.dead_sequence, counted = excluded.counted,
      duplicates = excluded.duplicates, repeated = excluded.repeated, dead_lettered = excluded.dead_lettered;
  end if;
  if cardinality(report_producers) > 0 then
    insert into producer_report as r (consumer_group, topic, producer, accepted, pending, dropped, final,
      reported_at, log_epoch)
    select distinct on (u.producer) flush_group, flush_topic, u.producer, u.accepted, u.pending, u.dropped, u.final,
      u.reported_at, (select max(e) from unnest(epochs) e)
    from unnest(report_producers, accepted, pending, dropped, finals, reported_ats) with ordinality
      as u(producer, accepted, pending, dropped, final, reported_at, place)
    order by u.producer, u.accepted desc, u.place desc
    on conflict (consumer_group, topic, producer) do update set
      accepted = excluded.accepted, pending = excluded.pending, dropped = excluded.dropped, final = excluded.final,
      reported_at = excluded.reported_at, log_epoch = excluded.log_epoch, log_ends = null, judged_at = null
    -- A report that was sent again is older than the stored one.
    where excluded.accepted >= r.accepted and excluded.reported_at >= r.reported_at;
  end if;
  if cardinality(requeued_offsets) > 0 then
    update dead_letter d set counted_at = now()
    from unnest(requeued_epochs, requeued_topics, requeued_partitions, requeued_offsets) q(epoch, topic, partition, log_offset)
    where d.topic = q.topic and d.partition = q.partition and d.log_offset = q.log_offset
      and d.log_epoch = q.epoch and d.counted_at is null;
    get diagnostics counted_rows = row_count;
    if counted_rows <> cardinality(requeued_offsets) then
      raise exception 'a requeued dead letter was counted before' using errcode = 'MM002';
    end if;
  end if;
end $$;
