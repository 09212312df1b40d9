-- What the totals contain for some licenses: the merged usage of their days, without what waits in
-- usage_delta. One statement reads everything, so a merge that commits meanwhile changes nothing.
create or replace function usage_folded(licenses text[])
returns table (license_id text, meter text, day date, quantity numeric, event_count bigint)
language sql stable as $$
  with wanted as (
    select distinct n collate "C" as license_id from unnest(licenses) n
  )
  select f.license_id, f.meter, f.day, sum(f.quantity), sum(f.event_count)::bigint
  from (
    select d.license_id, d.meter, d.day, d.quantity, d.event_count
    from wanted w, lateral (
      -- This uses the index, whatever the planner guesses, because most licenses that are added
      -- have no days at all.
      select * from usage_day u where u.license_id = w.license_id offset 0) d
    union all
    select a.license_id, a.meter, (a.hour at time zone 'UTC')::date, a.quantity, a.event_count
    from wanted w, lateral (
      select * from usage_appended u where u.license_id = w.license_id offset 0) a
    union all
    select d.license_id, d.meter, d.day, -d.quantity, -d.event_count
    from wanted w join usage_delta d on d.license_id = w.license_id
  ) f
  group by 1, 2, 3 having sum(f.quantity) <> 0 or sum(f.event_count) <> 0
$$;
