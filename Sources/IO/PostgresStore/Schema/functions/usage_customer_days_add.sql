create function usage_customer_days_add(
  customers text[], meters text[], days date[], quantities numeric[], event_counts bigint[]
) returns void language sql as $$
  insert into usage_customer_day as t (customer_id, meter, day, quantity, event_count)
  select coalesce(u.customer_id, ''), u.meter, u.day, sum(u.quantity), sum(u.event_count)::bigint
  from unnest(customers, meters, days, quantities, event_counts)
    u(customer_id, meter, day, quantity, event_count)
  group by 1, 2, 3 having sum(u.quantity) <> 0 or sum(u.event_count) <> 0
  order by 1, 2, 3
  on conflict (customer_id, meter, day) do update set
    quantity = t.quantity + excluded.quantity, event_count = t.event_count + excluded.event_count
$$;
