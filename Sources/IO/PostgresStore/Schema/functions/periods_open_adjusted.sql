-- The open periods that end up to a day and have usage, or an adjustment that goes on their
-- invoice. Like the reads of v0011 it has two forms with the same result.
create function periods_open_adjusted(through date, of_customer text)
returns table (license_id text, meter text, period_start date, period_end date)
language sql stable as $$
  select a.license_id, a.meter, p.first_day, p.end_day
  from (
    select e.license_id, e.meter, e.invoiced_period_start as invoiced from usage_adjustment_entry e
    left join license_closing c on c.license_id = e.license_id
    where e.kind = 'manual' and e.invoiced_period_start < through
      and (c.license_id is null or e.invoiced_period_start >= c.closed_through)
    union
    select t.license_id, t.meter, next_open_period(t.license_id, t.meter, t.period_end)
    from usage_late t
    where t.quantity <> t.recorded_quantity or t.event_count <> t.recorded_event_count
    union
    select t.license_id, t.meter, next_open_period(t.license_id, t.meter, t.period_end)
    from usage_late_pending t
  ) a, period_of(a.license_id, a.invoiced) p
  where p.end_day <= through
    and (of_customer is null or exists (
      select from license l where l.license_id = a.license_id and l.customer_id = of_customer))
    and not exists (
      select from usage_period_closed x where x.license_id = a.license_id and x.meter = a.meter
        and x.period_start <= a.invoiced and a.invoiced < x.period_end)
$$;
