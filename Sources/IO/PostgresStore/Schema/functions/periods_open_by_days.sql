create function periods_open_by_days(through date, of_customer text)
returns table (license_id text, meter text, period_start date, period_end date, quantity numeric,
  event_count bigint)
language sql stable as $$
  select u.license_id, u.meter, u.period_start, u.period_end, sum(u.quantity),
    sum(u.event_count)::bigint
  from (
    select v.license_id, v.meter, (v.period_start at time zone 'UTC')::date as period_start,
      (v.period_end at time zone 'UTC')::date as period_end, v.quantity, v.event_count
    from usage_by_period v
    where v.closed_at is null and v.period_end <= through::timestamp at time zone 'UTC'
      and (of_customer is null or v.license_id in (
        select l.license_id from license l where l.customer_id = of_customer))
    union all
    select a.license_id, a.meter, a.period_start, a.period_end, 0, 0
    from periods_open_adjusted(through, of_customer) a
  ) u group by 1, 2, 3, 4
$$;
