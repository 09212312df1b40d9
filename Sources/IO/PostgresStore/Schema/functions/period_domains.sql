-- A license's usage of a meter in a period, by domain. For a closed period it leaves out late
-- usage. If a late event's domain was folded into `(other)`, it is subtracted there.
create or replace function period_domains(license text, of_meter text, start date, ending date)
returns table (domain text, quantity bigint, event_count bigint)
language sql stable as $$
  with late as (
    select e->>1 as value, sum((e->>2)::bigint) as q, sum((e->>3)::bigint) as n
    from (
      select t.dimensions from usage_late t where t.license_id = license and t.meter = of_meter
        and t.period_start = start and t.dimensions <> ''
      union all
      select p.dimensions from usage_unmerged p
      where p.license_id = license and p.meter = of_meter and p.dimensions <> ''
        and p.hour >= start::timestamp at time zone 'UTC'
        and p.hour < ending::timestamp at time zone 'UTC'
        and exists (
          select from usage_late_pending l where l.license_id = license and l.meter = of_meter
            and l.period_start = start)
    ) d, json_array_elements(('[' || d.dimensions || ']')::json) e
    where e->>0 = 'domain' group by 1
  ), named as (
    select d.value, sum(d.quantity) as q, sum(d.event_count) as n from usage_by_dimension_day d
    where d.license_id = license and d.meter = of_meter and d.dimension = 'domain'
      and d.bucket_start >= start::timestamp at time zone 'UTC'
      and d.bucket_start < ending::timestamp at time zone 'UTC'
    group by 1
  )
  select u.value, sum(u.q)::bigint, sum(u.n)::bigint
  from (
    select value, q, n from named
    union all
    select coalesce(m.value, '(other)'), -l.q, -l.n from late l left join named m using (value)
  ) u group by 1 having sum(u.q) <> 0 or sum(u.n) <> 0
$$;
