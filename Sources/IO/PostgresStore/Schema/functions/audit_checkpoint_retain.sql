-- Removes checkpoints from which no recount can start, because the log does not reach back to them.
-- It thins the others: the first of each ten minutes stays for a day, and after that the first of
-- each day. The newest one of a partition always stays. Returns how many were removed.
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
