-- Adds to `closing_period` the periods of `closing` whose licenses have no totals yet: those after
-- made_through in the order of bytes. Nothing of them is pending or appended.
create function usage_closing_by_days(made_through text) returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
begin
  with chosen as materialized (
    select * from closing where license_id > made_through
  ), interval_of as materialized (
    select b.license_id, b.effective_from, b.anchor_day,
      lead(b.effective_from) over (partition by b.license_id order by b.effective_from) as until
    from chosen c join license_billing_anchor b on b.license_id = c.license_id
  ), covering as (
    select * from interval_of
    union all
    select c.license_id, '-infinity', 1, min(i.effective_from)
    from chosen c left join interval_of i on i.license_id = c.license_id group by c.license_id
    having min(i.effective_from) is distinct from '-infinity'
  )
  insert into closing_period
  select c.license_id, d.meter, d.first_day, d.end_day, d.quantity, d.event_count
  from chosen c join covering b on b.license_id = c.license_id, lateral (
    select u.meter, greatest(last_anchor(u.day, b.anchor_day), b.effective_from) as first_day,
      least(next_anchor(u.day, b.anchor_day), b.until) as end_day,
      sum(u.quantity)::bigint as quantity, sum(u.event_count)::bigint as event_count
    from usage_day u
    where u.license_id = c.license_id and u.day >= greatest(c.closed_from, b.effective_from)
      and u.day < least(c.boundary, b.until) and (c.meter is null or u.meter = c.meter)
    group by 1, 2, 3 offset 0) d;
end $$;
