-- A license's usage of a meter in a period, by domain. A closed period shows what was counted at its
-- close: what usage_closed_domains_keep kept before the first late event, and else what is in its
-- days. Whatever of a closed period is pending is late.
create or replace function period_domains(license text, of_meter text, start date, ending date)
returns table (domain text, quantity bigint, event_count bigint)
language sql stable as $$
  with closed as materialized (
    select t.closed_domains, t.dimensions as late, t.closed_domains is not null as is_kept,
      -- Closed, or merged as late, by a schema before 37.
      t.closed_domains is null and (x.bound_domains is null or t.license_id is not null) as is_older,
      x.bound_domains
    from usage_period_closed x left join usage_late t using (license_id, meter, period_start)
    where x.license_id = license and x.meter = of_meter and x.period_start = start
  ), day as materialized (
    select * from period_closed_days(license, of_meter, start, ending)
    where exists (select from closed where not is_kept)
  ), before as materialized (
    select c.value, sum(c.quantity) as q, sum(c.event_count) as n
    from day d, usage_dimensions_capped_before(d.parts,
      (select l.domains from license l where l.license_id = license)) c
    where c.dimension = 'domain' and exists (select from closed where is_older)
    group by 1
  ), late as (
    -- What a name has not had was in `(other)`.
    select l.value, least(l.q, coalesce(b.q, 0)) as q, least(l.n, coalesce(b.n, 0)) as n,
      l.q as whole_q, l.n as whole_n
    from (
      select e->>1 as value, sum((e->>2)::bigint) as q, sum((e->>3)::bigint) as n
      from closed c, json_array_elements(('[' || c.late || ']')::json) e
      where c.is_older and c.late <> '' and e->>0 = 'domain' group by 1
    ) l left join before b using (value)
  )
  select d.value, sum(d.quantity)::bigint, sum(d.event_count)::bigint
  from usage_by_dimension_day d
  where d.license_id = license and d.meter = of_meter and d.dimension = 'domain'
    and d.bucket_start >= start::timestamp at time zone 'UTC'
    and d.bucket_start < ending::timestamp at time zone 'UTC' and not exists (select from closed)
  group by 1 having sum(d.quantity) <> 0 or sum(d.event_count) <> 0
  union all
  select e->>0, (e->>1)::bigint, (e->>2)::bigint
  from closed c, json_array_elements(('[' || c.closed_domains || ']')::json) e
  where c.is_kept and c.closed_domains <> ''
  union all
  select c.value, sum(c.quantity)::bigint, sum(c.event_count)::bigint
  from closed x, day d, usage_dimensions_capped(d.parts, x.bound_domains) c
  where not x.is_kept and not x.is_older and c.dimension = 'domain'
  group by 1 having sum(c.quantity) <> 0 or sum(c.event_count) <> 0
  union all
  select u.value, sum(u.q)::bigint, sum(u.n)::bigint
  from (
    select value, q, n from before
    union all
    select value, -q, -n from late
    union all
    select '(other)', q - whole_q, n - whole_n from late
  ) u group by 1 having sum(u.q) > 0 or sum(u.n) > 0
$$;
