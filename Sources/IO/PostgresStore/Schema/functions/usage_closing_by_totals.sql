-- Adds to `closing_period` the periods of `closing` whose licenses have totals: those up to
-- made_through in the order of bytes, or all of them. The totals and what waits in usage_delta add up
-- to the days. One statement reads both, because a fold may move rows from one to the other.
create function usage_closing_by_totals(made_through text, is_complete boolean) returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
begin
  insert into closing_period
  select u.license_id, u.meter, u.first_day, u.end_day, sum(u.quantity)::bigint,
    sum(u.event_count)::bigint
  from (
    select t.license_id, t.meter, t.period_start as first_day, t.period_end as end_day, t.quantity,
      t.event_count
    from closing c, lateral (
      select * from usage_license_period p where p.license_id = c.license_id
        and p.period_start >= c.closed_from and p.period_start < c.boundary offset 0) t
    where (is_complete or c.license_id <= made_through) and (c.meter is null or t.meter = c.meter)
    union all
    select d.license_id, d.meter, p.first_day, p.end_day, d.quantity, d.event_count
    from (
      select w.license_id, w.meter, w.day, sum(w.quantity) as quantity,
        sum(w.event_count) as event_count
      from usage_delta w join closing c on c.license_id = w.license_id
        and w.day >= c.closed_from and w.day < c.boundary and (c.meter is null or w.meter = c.meter)
      where (is_complete or c.license_id <= made_through)
        and w.day < (select max(boundary) from closing)
      group by 1, 2, 3
    ) d, period_of(d.license_id, d.day) p
  ) u group by 1, 2, 3, 4;
end $$;
