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
