create or replace function periods_of_day_by_days(on_day date)
returns table (meter text, quantity numeric, event_count bigint)
language sql stable parallel safe as $$
  select u.meter, sum(u.quantity), sum(u.event_count)::bigint
  from (
    select d.meter, d.quantity, d.event_count
    from (
      select d.license_id, d.meter, d.day, d.quantity, d.event_count from usage_day d
      where d.day > on_day - 31 and d.day < on_day + 31
      union all
      select p.license_id, p.meter, (p.hour at time zone 'UTC')::date, p.quantity, p.event_count
      from usage_waiting p
    ) d
    left join billing_interval b on b.license_id = d.license_id
      and b.effective_from <= d.day and (d.day < b.until or b.until is null)
    where greatest(last_anchor(d.day, coalesce(b.anchor_day, 1)), b.effective_from) <= on_day
      and least(next_anchor(d.day, coalesce(b.anchor_day, 1)), b.until) > on_day
    union all
    select t.meter, -t.quantity, -t.event_count from usage_late_total t
    where t.period_start <= on_day and t.period_end > on_day
  ) u group by 1
$$;
