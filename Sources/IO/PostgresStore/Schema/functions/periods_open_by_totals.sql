create function periods_open_by_totals(through date, of_customer text)
returns table (license_id text, meter text, period_start date, period_end date, quantity numeric,
  event_count bigint)
language sql stable as $$
  select u.license_id, u.meter, u.period_start, u.period_end, sum(u.quantity),
    sum(u.event_count)::bigint
  from (
    select t.license_id, t.meter, t.period_start, t.period_end, t.quantity, t.event_count
    from usage_license_period t where t.period_end <= through
    union all
    select w.license_id, w.meter,
      greatest(last_anchor(w.day, coalesce(b.anchor_day, 1)), b.effective_from),
      least(next_anchor(w.day, coalesce(b.anchor_day, 1)), b.until), w.quantity, w.event_count
    from usage_unfolded w
    left join billing_interval b on b.license_id = w.license_id
      and b.effective_from <= w.day and (w.day < b.until or b.until is null)
    where w.day < through
    union all
    select a.license_id, a.meter, a.period_start, a.period_end, 0, 0
    from periods_open_adjusted(through, of_customer) a
  ) u
  left join license_closing c on c.license_id = u.license_id
  where u.period_end <= through
    and (c.license_id is null or u.period_start >= c.closed_through)
    and (of_customer is null or u.license_id in (
      select l.license_id from license l where l.customer_id = of_customer))
    and not exists (
      select from usage_period_closed x where x.license_id = u.license_id and x.meter = u.meter
        and x.period_start = u.period_start)
  group by 1, 2, 3, 4
$$;
