-- Puts a partition's mark back to the beginning. It runs when a partition of the usage log gets its first
-- offset or when its offset is set back, because rows before the mark may then be written again. It waits
-- for a merge that has read the offset, and it ends before the next merge reads the offset.
create function usage_merged_reset() returns trigger language plpgsql as $$
begin
  insert into usage_merged (partition, log_epoch, next_offset) values (new.partition, 0, 0)
  on conflict (partition) do update set log_epoch = 0, next_offset = 0;
  return null;
end $$;
