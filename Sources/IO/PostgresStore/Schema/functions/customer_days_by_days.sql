create function customer_days_by_days(customer text, from_day date, to_day date)
returns table (meter text, day date, quantity numeric, event_count bigint)
language sql stable parallel safe as $$
  select u.meter, u.day, sum(u.quantity), sum(u.event_count)::bigint
  from (
    select d.meter, d.day, d.quantity, d.event_count
    from license l, lateral (
      select d.meter, d.day, d.quantity, d.event_count from usage_day d
      where d.license_id = l.license_id and d.day >= from_day and d.day < to_day offset 0) d
    where l.customer_id = customer
    union all
    select p.meter, (p.hour at time zone 'UTC')::date, p.quantity, p.event_count
    from usage_waiting p join license l on l.license_id = p.license_id
    where l.customer_id = customer and (p.hour at time zone 'UTC')::date >= from_day
      and (p.hour at time zone 'UTC')::date < to_day
  ) u group by 1, 2
$$;
