-- The usage of a customer's licenses on each day in [from_day, to_day), by meter.
create or replace function customer_days_by_totals(customer text, from_day date, to_day date)
returns table (meter text, day date, quantity numeric, event_count bigint)
language sql stable parallel safe as $$
  select u.meter, u.day, sum(u.quantity), sum(u.event_count)::bigint
  from (
    select t.meter, t.day, t.quantity, t.event_count from usage_customer_day t
    where t.customer_id = customer and t.day >= from_day and t.day < to_day
    union all
    select w.meter, w.day, w.quantity, w.event_count
    from usage_unfolded_of(array[customer]) w where w.day >= from_day and w.day < to_day
  ) u group by 1, 2 having sum(u.event_count) <> 0
$$;
