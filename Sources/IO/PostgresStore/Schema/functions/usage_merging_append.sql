-- Appends the sums of `merging`, one row for each license, meter, hour and place in the log. They
-- are in the order of licenses, because then neighbors in the index are written one after the
-- other.
create function usage_merging_append() returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
begin
  insert into usage_appended (log_epoch, partition, license_id, meter, hour, first_offset,
    last_offset, quantity, event_count, minutes, dimensions)
  select log_epoch, partition, license_id, meter, hour, min(first_offset), max(last_offset),
    sum(quantity)::bigint, sum(event_count)::bigint,
    coalesce(string_agg(nullif(minutes, ''), ','), ''),
    coalesce(string_agg(nullif(dimensions, ''), ','), '')
  from merging group by license_id, hour, meter, log_epoch, partition
  order by license_id, hour, meter, log_epoch, partition;
  perform nextval('usage_append_count');
end $$;
