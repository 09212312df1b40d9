-- Stores what a partition knows about its producers now, as of `at_offset`.
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
