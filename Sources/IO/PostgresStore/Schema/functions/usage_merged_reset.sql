-- Runs where a partition of the log of usage gets its offset, or has it set back: rows with places
-- before the mark may come again. It waits for a merge that has read the offset, and is over before the
-- next one reads it.
create function usage_merged_reset() returns trigger language plpgsql as $$
begin
  insert into usage_merged (partition, log_epoch, next_offset) values (new.partition, 0, 0)
  on conflict (partition) do update set log_epoch = 0, next_offset = 0;
  return null;
end $$;
