-- The totals of ten minutes by customer and meter, and by meter alone (an empty customer).
create function usage_watch_totals(slot timestamptz)
returns table (customer_id text, meter text, quantity numeric) language sql stable as $$
  with parts as (
    select license_id, meter, minutes from usage_hour where hour = date_trunc('hour', slot, 'UTC')
    union all
    select license_id, meter, minutes from usage_waiting where hour = date_trunc('hour', slot, 'UTC')
  ), licenses as (
    select p.license_id, p.meter, sum((e->>1)::numeric) as quantity
    from parts p, json_array_elements(('[' || p.minutes || ']')::json) e
    where (e->>0)::int >= extract(minute from slot)
      and (e->>0)::int < extract(minute from slot) + 10
    group by 1, 2
  )
  select case when grouping(l.customer_id) = 1 then '' else l.customer_id end collate "C",
    u.meter, sum(u.quantity)
  from licenses u left join license l on l.license_id = u.license_id
  group by grouping sets ((l.customer_id, u.meter), (u.meter))
$$;
