-- Counts what `merging` contains for the totals, for late usage and for the limits. It runs after
-- the rows themselves are written, because a limit whose state is new adds those up.
create function usage_merging_count() returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
begin
  insert into usage_delta (license_id, meter, day, quantity, event_count)
  select license_id, meter, (hour at time zone 'UTC')::date, sum(quantity)::bigint,
    sum(event_count)::bigint
  from merging group by 1, 2, 3;
  insert into usage_meter_hour_delta (hour, meter, quantity, event_count)
  select hour, meter, sum(quantity), sum(event_count)::bigint from merging group by 1, 2;
  perform usage_late_count();
  perform limit_states_advance();
  perform usage_merging_traces();
end $$;
