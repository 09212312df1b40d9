-- As consumers of schema 37 and older settle dead letters. Newer ones call flush_settled. This
-- function stays, because older processes run beside newer ones during an upgrade; a later release
-- drops it.
-- Marks the dead letters whose requeued records this flush counts, after its compare-and-set.
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
