-- Settles dead letters whose requeued records a flush has judged, after its compare-and-set. A
-- letter is identified by its place and the SHA-256 of its value, because offsets are used again
-- after a log has lost its end. Where `counts` is true the flush counts the record, and the letter
-- must be open: MM002 is raised if it is settled already, or if there is none. Otherwise the record
-- is a duplicate, and the letter may be settled already.
create function flush_settled(
  epochs int[], topics text[], partitions int[], log_offsets bigint[], value_hashes text[],
  counts boolean[]
) returns void language plpgsql as $$
declare
  refused boolean;
begin
  with named as materialized (
    select * from unnest(epochs, topics, partitions, log_offsets, value_hashes, counts)
      with ordinality q(epoch, topic, partition, log_offset, value_hash, counts, place)
  ), found as (
    select n.place, count(d.log_offset) as letters
    from named n left join dead_letter d on d.topic = n.topic and d.partition = n.partition
      and d.log_offset = n.log_offset and d.log_epoch = n.epoch
      and encode(sha256(d.payload), 'hex') = n.value_hash
    where n.counts group by 1
  ), settled as (
    update dead_letter d set counted_at = now() from named n
    where d.topic = n.topic and d.partition = n.partition and d.log_offset = n.log_offset
      and d.log_epoch = n.epoch and encode(sha256(d.payload), 'hex') = n.value_hash
      and d.counted_at is null
    returning n.place
  ), sums as (
    select place, count(*) as letters from settled group by 1
  )
  select exists (
    select from found f left join sums s using (place)
    where f.letters = 0 or s.letters is distinct from f.letters) into refused;
  if refused then
    raise exception 'a requeued dead letter was counted before' using errcode = 'MM002';
  end if;
end $$;
