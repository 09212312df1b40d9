create function usage_in_periods_of(on_day date)
returns table (meter text, quantity numeric, event_count bigint)
language plpgsql stable set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  if (select is_complete from usage_total_state) then
    return query select * from periods_of_day_by_totals(on_day);
  else
    return query select * from periods_of_day_by_days(on_day);
  end if;
end $$;
