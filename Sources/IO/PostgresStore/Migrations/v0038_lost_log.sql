-- Faults of requeued dead letters and of logs that lost a part.
--
-- - After an accepted gap, two dead letters could have one place. A requeue of either one was refused
--   for ever, and the aggregator counted nothing else.
-- - A dead letter of the lost part kept the record that got its offset out of the dedupe window, so
--   an event that was sent again counted twice.
-- - Reports of producers waited for ends of a log that no longer exists.

update schema_version set version = 38;

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

-- Removes dead letters that are older than 400 days and were forwarded, once the log no longer has
-- their records. Until then, a recount finds them in the log. Returns how many.
--
-- lows: the low watermark of each partition.
create or replace function dead_letter_retain(
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

-- Runs when a partition's offset is set back or a new epoch begins, because a part of the log is
-- lost. What is known about the lost records must not be taken for what gets their offsets next.
create function log_lost() returns trigger language plpgsql as $$
begin
  if new.log_epoch = old.log_epoch then
    update dead_letter d set lost_from = new.next_offset
    where d.topic = new.topic and d.partition = new.partition and d.log_offset >= new.next_offset
      and d.log_epoch = new.log_epoch and d.consumer_group = new.consumer_group
      and (d.lost_from is null or d.lost_from > new.next_offset);
    delete from dedupe_window w
    where w.consumer_group = new.consumer_group and w.topic = new.topic
      and w.partition = new.partition and w.log_epoch = new.log_epoch
      and w.from_offset > new.next_offset;
    -- Lost offsets do not show which producer was heard last.
    update producer_sequence s set last_offset = -1
    where s.consumer_group = new.consumer_group and s.topic = new.topic
      and s.partition = new.partition and s.last_offset >= new.next_offset;
    update producer_report r set log_ends[new.partition + 1] = new.next_offset
    where r.consumer_group = new.consumer_group and r.topic = new.topic and r.judged_at is null
      and r.log_ends[new.partition + 1] > new.next_offset;
  end if;
  if new.consumer_group = 'usage-aggregator' and new.topic = 'license.usage.v1' then
    update usage_watch w set log_ends[new.partition + 1] = new.next_offset
    where w.log_ends[new.partition + 1] > new.next_offset;
  end if;
  return null;
end $$;

-- Flushes write to both tables, in either order, and would queue behind a lock that waits. So both locks
-- are taken together, and given up after a moment and tried again.
do $do$
declare
  tries int := 0;
begin
  perform set_config('lock_timeout', '100ms', true);
  loop
    tries := tries + 1;
    begin
      lock table consumer_offset in share row exclusive mode;
      lock table dead_letter in access exclusive mode;
      -- The record's part of the log is lost, and the log was read on from this offset. Records from
      -- there on come after the letter, and one of them may have its offset.
      alter table dead_letter add column lost_from bigint;
      create trigger log_lost_of_offset_set_back
        after update on consumer_offset for each row
        when (old.next_offset >= 0 and (new.log_epoch <> old.log_epoch
          or new.next_offset < old.next_offset))
        execute function log_lost();
      exit;
    exception when lock_not_available then
      if tries = 2000 then raise; end if;
      perform pg_sleep(0.1);
    end;
  end loop;
  perform set_config('lock_timeout', '0', true);
end $do$;

-- Gaps that were accepted before. Where an offset was set back, the dead letters of the lost part are
-- older than the gap. Other gaps contain no dead letter.
update dead_letter d set lost_from = g.lost_from
from (
  select e.ctid as place, min(l.first_offset) as lost_from
  from log_gap l join dead_letter e on e.topic = l.topic and e.partition = l.partition
    and e.log_offset between l.first_offset and l.last_offset and e.log_epoch = l.log_epoch
    and e.consumer_group = l.consumer_group and e.received_at < l.accepted_at
  group by 1
) g where d.ctid = g.place;
