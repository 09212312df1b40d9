create function customer_periods_by_days(customer text, from_day date, to_day date)
returns table (license_id text, meter text, period_start date, period_end date, quantity numeric,
  event_count bigint)
language sql stable parallel safe as $$
  select v.license_id, v.meter, (v.period_start at time zone 'UTC')::date,
    (v.period_end at time zone 'UTC')::date, v.quantity, v.event_count
  from usage_by_period v
  where v.license_id = any (array(select l.license_id from license l where l.customer_id = customer))
    and (v.period_end at time zone 'UTC')::date > from_day
    and (v.period_start at time zone 'UTC')::date < to_day
$$;
