-- Takes a checkpoint of each partition that has moved since its newest one, if that is at least as
-- old as `every`. One statement reads both the offsets and the producers, which flushes change
-- together, so they fit together. Returns how many were taken, or 0 if another process is taking
-- them.
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
