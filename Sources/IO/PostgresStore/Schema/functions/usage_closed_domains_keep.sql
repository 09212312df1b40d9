-- Keeps what closed periods show by domain, before `merging` adds the first late usage to their days.
-- It runs before the rows themselves are written. A concurrent merge of the same period sees the
-- same days and keeps the same.
create function usage_closed_domains_keep() returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  -- Nearly every merge ends here, because its rows are younger than everything that is closed.
  if not exists (
    select from merging m where m.hour < (
      select max(frozen_through)::timestamp at time zone 'UTC' from license_closing))
  then return; end if;
  with wanted as materialized (
    select distinct x.license_id, x.meter, x.period_start, x.period_end, x.bound_domains,
      x.is_late, x.bound_domains is null or x.is_late as is_older
    from (
      select distinct license_id, meter, (hour at time zone 'UTC')::date as day from merging
    ) d
    join license_closing c on c.license_id = d.license_id and d.day < c.frozen_through, lateral (
      select p.*, k.license_id is not null as is_late, k.closed_domains
      from usage_period_closed p left join usage_late k using (license_id, meter, period_start)
      where p.license_id = d.license_id and p.meter = d.meter
        and p.period_start <= d.day and d.day < p.period_end offset 0) x
    where x.closed_domains is null
  ), told as (
    -- As period_domains does, but for all periods at once: a call for each takes six times as long.
    select w.license_id, w.meter, w.period_start, c.value, sum(c.quantity)::bigint as quantity,
      sum(c.event_count)::bigint as event_count
    from wanted w, lateral (
      select * from period_closed_days(w.license_id, w.meter, w.period_start, w.period_end) offset 0) d,
      usage_dimensions_capped(d.parts, w.bound_domains) c
    where not w.is_older and c.dimension = 'domain'
    group by 1, 2, 3, 4 having sum(c.quantity) <> 0 or sum(c.event_count) <> 0
    union all
    select w.license_id, w.meter, w.period_start, d.domain, d.quantity, d.event_count
    from (select * from wanted where is_older) w,
      period_domains(w.license_id, w.meter, w.period_start, w.period_end) d
  ), shown as materialized (
    select w.license_id, w.meter, w.period_start, w.period_end, w.is_late,
      coalesce(t.domains, '') as domains
    from wanted w left join (
      select license_id, meter, period_start,
        string_agg(json_build_array(value, quantity, event_count)::text, ','
          order by quantity desc, value) as domains
      from told group by 1, 2, 3
    ) t using (license_id, meter, period_start)
  ), completed as (
    update usage_late t set closed_domains = s.domains from shown s
    where s.is_late and t.closed_domains is null and t.license_id = s.license_id
      and t.meter = s.meter and t.period_start = s.period_start
  )
  -- A row that another merge has made meanwhile is not locked, because merges lock rows of hours
  -- before those of usage_late.
  insert into usage_late (license_id, meter, period_start, period_end, quantity, event_count,
    dimensions, closed_domains)
  select license_id, meter, period_start, period_end, 0, 0, '', domains
  from shown where not is_late order by 1, 2, 3 on conflict do nothing;
end $$;
