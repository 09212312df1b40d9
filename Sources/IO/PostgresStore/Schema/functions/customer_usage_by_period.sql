create function customer_usage_by_period(customer text, from_day date, to_day date)
returns table (license_id text, meter text, period_start date, period_end date, quantity numeric,
  event_count bigint)
language plpgsql stable set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  if (select is_complete from usage_total_state) then
    return query select * from customer_periods_by_totals(customer, from_day, to_day);
  else
    return query select * from customer_periods_by_days(customer, from_day, to_day);
  end if;
end $$;
