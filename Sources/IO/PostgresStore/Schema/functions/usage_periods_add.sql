-- Adds days to the totals of periods. Rows are written in the order of their keys.
create function usage_periods_add(
  licenses text[], meters text[], days date[], quantities bigint[], event_counts bigint[]
) returns void language sql as $$
  insert into usage_license_period as t (license_id, meter, period_start, period_end, quantity,
    event_count)
  select u.license_id, u.meter,
    greatest(last_anchor(u.day, coalesce(b.anchor_day, 1)), b.effective_from),
    least(next_anchor(u.day, coalesce(b.anchor_day, 1)), b.until),
    sum(u.quantity)::bigint, sum(u.event_count)::bigint
  from unnest(licenses, meters, days, quantities, event_counts)
    u(license_id, meter, day, quantity, event_count)
  left join billing_interval b on b.license_id = u.license_id collate "C"
    and b.effective_from <= u.day and (u.day < b.until or b.until is null)
  group by 1, 2, 3, 4 order by 1, 2, 3
  on conflict (license_id, meter, period_start) do update set
    quantity = t.quantity + excluded.quantity, event_count = t.event_count + excluded.event_count
$$;
