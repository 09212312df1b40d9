-- Removes dead letters that are older than 400 days and were forwarded, once the log no longer has
-- their records. Until then, a recount finds them in the log. Returns how many.
--
-- lows: the low watermark of each partition.
create function dead_letter_retain(
  of_group text, of_topic text, partitions int[], lows bigint[], most int
) returns bigint language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  removed bigint;
begin
  delete from dead_letter where ctid = any (array(
    select d.ctid from dead_letter d
    join consumer_offset o on o.consumer_group = d.consumer_group and o.topic = d.topic
      and o.partition = d.partition
    left join unnest(partitions, lows) l(partition, low) on l.partition = d.partition
    where d.received_at < now() - interval '400 days' and d.consumer_group = of_group
      and d.topic = of_topic and d.forwarded_at is not null
      and (d.log_epoch < o.log_epoch or d.log_offset < l.low or d.lost_from is not null)
    limit most for update of d skip locked));
  get diagnostics removed = row_count;
  return removed;
end $$;
