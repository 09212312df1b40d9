-- Part of a flush, after the compare-and-set. The counts are those since the last flush. Forgotten
-- producers come before the others, because a producer may be forgotten and heard again within one
-- flush.
create function flush_producers(
  flush_group text, flush_topic text, partitions int[], names text[], offsets bigint[], forgotten_ones boolean[],
  sequences bigint[], dead_sequences bigint[], counted bigint[], duplicates bigint[], repeated bigint[],
  dead_lettered bigint[]
) returns void language plpgsql as $$
begin
  if true = any (forgotten_ones) then
    create temp table if not exists producers_leaving (
      partition int not null, producer text collate "C" not null, counted bigint not null, duplicates bigint not null,
      repeated bigint not null, dead_lettered bigint not null, has_reported boolean not null) on commit delete rows;
    insert into producers_leaving
    select u.partition, u.producer, sum(u.counted), sum(u.duplicates), sum(u.repeated), sum(u.dead_lettered),
      exists (select from producer_report r
        where r.consumer_group = flush_group and r.topic = flush_topic and r.producer = u.producer)
    from unnest(partitions, names, forgotten_ones, counted, duplicates, repeated, dead_lettered)
      as u(partition, producer, forgotten, counted, duplicates, repeated, dead_lettered)
    where u.forgotten group by 1, 2;
    insert into producer_sequence as s (consumer_group, topic, partition, producer, sequence, dead_sequence,
      counted, duplicates, repeated, dead_lettered, last_offset, forgotten)
    select flush_group, flush_topic, l.partition, l.producer, -1, -1, l.counted, l.duplicates, l.repeated,
      l.dead_lettered, -1, true
    from producers_leaving l where l.has_reported order by l.partition, l.producer
    on conflict (consumer_group, topic, partition, producer) do update set
      sequence = -1, dead_sequence = -1, last_offset = -1, forgotten = true,
      counted = s.counted + excluded.counted, duplicates = s.duplicates + excluded.duplicates,
      repeated = s.repeated + excluded.repeated, dead_lettered = s.dead_lettered + excluded.dead_lettered;
    delete from producer_sequence s using producers_leaving l
    where not l.has_reported and s.consumer_group = flush_group and s.topic = flush_topic
      and s.partition = l.partition and s.producer = l.producer;
    insert into producer_forgotten as f (consumer_group, topic, partition, producers)
    select flush_group, flush_topic, l.partition, count(*) from producers_leaving l where not l.has_reported
    group by l.partition order by l.partition
    on conflict (consumer_group, topic, partition) do update set
      producers = f.producers + excluded.producers, last_at = now();
  end if;
  insert into producer_sequence as s (consumer_group, topic, partition, producer, sequence, dead_sequence,
    counted, duplicates, repeated, dead_lettered, last_offset, forgotten)
  select flush_group, flush_topic, u.partition, u.producer, u.sequence, u.dead_sequence, u.counted, u.duplicates,
    u.repeated, u.dead_lettered, u.last_offset, false
  from unnest(partitions, names, offsets, forgotten_ones, sequences, dead_sequences, counted, duplicates, repeated,
    dead_lettered) as u(partition, producer, last_offset, forgotten, sequence, dead_sequence, counted, duplicates,
    repeated, dead_lettered)
  where not u.forgotten order by u.partition, u.producer
  on conflict (consumer_group, topic, partition, producer) do update set
    sequence = excluded.sequence, dead_sequence = excluded.dead_sequence, last_offset = excluded.last_offset,
    forgotten = false,
    counted = s.counted + excluded.counted, duplicates = s.duplicates + excluded.duplicates,
    repeated = s.repeated + excluded.repeated, dead_lettered = s.dead_lettered + excluded.dead_lettered;
end $$;
