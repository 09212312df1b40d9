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
