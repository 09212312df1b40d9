-- The rows of usage_unfolded of the licenses of some customers. Rows of small flushes are found by
-- license. The other rows are asked whether their license is one of these, which PostgreSQL looks up in
-- a hash table: it takes full queues for empty ones, and would look up the customer of each row.
create function usage_unfolded_of(customers text[])
returns table (customer_id text, license_id text, meter text, day date, quantity bigint,
  event_count bigint)
language sql stable parallel safe as $$
  select l.customer_id, d.license_id, d.meter, d.day, d.quantity, d.event_count
  from usage_delta d join license l on l.license_id = d.license_id
  where coalesce(d.license_id in (
    select w.license_id from license w where w.customer_id = any (customers)), false)
  union all
  select l.customer_id, p.license_id, p.meter, (p.hour at time zone 'UTC')::date, p.quantity,
    p.event_count
  from usage_unmerged_large p join license l on l.license_id = p.license_id
  where coalesce(p.license_id in (
    select w.license_id from license w where w.customer_id = any (customers)), false)
  union all
  select l.customer_id, q.license_id, q.meter, (q.hour at time zone 'UTC')::date, q.quantity,
    q.event_count
  from license l, lateral (
    select * from usage_pending_recent q where q.license_id = l.license_id offset 0) q
  where l.customer_id = any (customers)
$$;
