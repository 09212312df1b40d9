create function periods_open(through date, of_customer text default null)
returns table (license_id text, meter text, period_start date, period_end date, quantity numeric,
  event_count bigint)
language plpgsql stable set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  if (select is_complete from usage_total_state) then
    return query select * from periods_open_by_totals(through, of_customer);
  else
    return query select * from periods_open_by_days(through, of_customer);
  end if;
end $$;
