create or replace function customer_periods_by_totals(customer text, from_day date, to_day date)
returns table (license_id text, meter text, period_start date, period_end date, quantity numeric,
  event_count bigint)
language sql stable parallel safe as $$
  select u.license_id, u.meter, u.period_start, u.period_end, sum(u.quantity),
    sum(u.event_count)::bigint
  from (
    select t.license_id, t.meter, t.period_start, t.period_end, t.quantity, t.event_count
    from license l, lateral (
      select t.* from usage_license_period t where t.license_id = l.license_id
        and t.period_end > from_day and t.period_start < to_day offset 0) t
    where l.customer_id = customer
    union all
    select w.license_id, w.meter, p.first_day, p.end_day, w.quantity, w.event_count
    from usage_unfolded_of(array[customer]) w, period_of(w.license_id, w.day) p
    where p.end_day > from_day and p.first_day < to_day
    union all
    select t.license_id, t.meter, t.period_start, t.period_end, -t.quantity, -t.event_count
    from usage_late_total t join license l on l.license_id = t.license_id
    where l.customer_id = customer and t.period_end > from_day and t.period_start < to_day
    union all
    select t.license_id, t.meter, t.period_start, t.period_end, 0, 0
    from license l, lateral (
      select t.* from usage_period_closed t where t.license_id = l.license_id
        and t.period_end > from_day and t.period_start < to_day and t.event_count = 0 offset 0) t
    where l.customer_id = customer
  ) u group by 1, 2, 3, 4
$$;
