-- Adds the rows of `merging` to the hour and day rows. They are written in the order of their keys,
-- hours before days, so that concurrent calls never deadlock. Rows of months that are kept out of
-- the default partitions are appended. The caller holds usage_combine_lock_key().
create function usage_merging_settle() returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  kept_out tstzrange[] := usage_months_kept_out();
begin
  -- A close writes all rows. It holds the lock exclusively, and so does a session that makes a
  -- partition.
  if kept_out <> '{}' and to_regclass('pg_temp.closing') is not null then
    if exists (select from closing) then
      perform usage_months_let_in();
      kept_out := '{}';
    end if;
  end if;
  if kept_out <> '{}' then
    insert into usage_appended select * from merging where hour <@ any (kept_out);
  end if;
  insert into usage_hour as h (license_id, meter, hour, log_epoch, partition, first_offset, last_offset,
    quantity, event_count, minutes)
  select license_id, meter, hour, log_epoch, partition, min(first_offset), max(last_offset),
    sum(quantity)::bigint, sum(event_count)::bigint, string_agg(minutes, ',')
  from merging where (hour <@ any (kept_out)) is not true
  group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5
  on conflict (license_id, meter, hour, log_epoch, partition) do update set
    first_offset = least(h.first_offset, excluded.first_offset),
    last_offset = greatest(h.last_offset, excluded.last_offset),
    quantity = h.quantity + excluded.quantity,
    event_count = h.event_count + excluded.event_count,
    minutes = case when length(h.minutes) > greatest(900, 2 * h.minutes_compacted)
      then usage_minutes_compact(concat_ws(',', nullif(h.minutes, ''), excluded.minutes))
      else concat_ws(',', nullif(h.minutes, ''), excluded.minutes) end,
    minutes_compacted = case when length(h.minutes) > greatest(900, 2 * h.minutes_compacted)
      then least(length(h.minutes) / 2, 1500) else h.minutes_compacted end,
    written_at = now();
  insert into usage_day as d (license_id, meter, day, quantity, event_count, dimensions)
  select license_id, meter, (hour at time zone 'UTC')::date, sum(quantity)::bigint, sum(event_count)::bigint,
    coalesce(string_agg(nullif(dimensions, ''), ','), '')
  from merging where (hour <@ any (kept_out)) is not true group by 1, 2, 3 order by 1, 2, 3
  on conflict (license_id, meter, day) do update set
    quantity = d.quantity + excluded.quantity,
    event_count = d.event_count + excluded.event_count,
    dimensions = case when length(d.dimensions) > greatest(1200, 2 * d.dimensions_compacted)
      then usage_dimensions_compact(concat_ws(',', nullif(d.dimensions, ''), nullif(excluded.dimensions, '')),
        (select domains from license l where l.license_id = d.license_id))
      else concat_ws(',', nullif(d.dimensions, ''), nullif(excluded.dimensions, '')) end,
    dimensions_compacted = case when length(d.dimensions) > greatest(1200, 2 * d.dimensions_compacted)
      then least(length(d.dimensions) / 2, 40000) else d.dimensions_compacted end,
    written_at = now();
end $$;
