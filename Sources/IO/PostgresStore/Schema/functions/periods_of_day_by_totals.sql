create or replace function periods_of_day_by_totals(on_day date)
returns table (meter text, quantity numeric, event_count bigint)
language sql stable parallel safe as $$
  select u.meter, sum(u.quantity), sum(u.event_count)::bigint
  from (
    -- No period is longer than 31 days.
    select t.meter, t.quantity, t.event_count from usage_license_period t
    where t.period_end > on_day and t.period_end <= on_day + 31 and t.period_start <= on_day
    union all
    select w.meter, w.quantity, w.event_count
    from usage_unfolded w
    left join billing_interval b on b.license_id = w.license_id
      and b.effective_from <= w.day and (w.day < b.until or b.until is null)
    where greatest(last_anchor(w.day, coalesce(b.anchor_day, 1)), b.effective_from) <= on_day
      and least(next_anchor(w.day, coalesce(b.anchor_day, 1)), b.until) > on_day
    union all
    select t.meter, -t.quantity, -t.event_count from usage_late_total t
    where t.period_start <= on_day and t.period_end > on_day
  ) u group by 1
$$;
