-- Sets aside the license-days of `merging` that no longer fit, so that they do not stop those of
-- other licenses.
create function usage_merging_isolate() returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  with broken as materialized (
    select * from usage_merging_beyond(-1e30, 100000000000000000)
  ), aside as (
    delete from merging m using broken b
    where m.license_id = b.license_id and m.meter = b.meter and (m.hour at time zone 'UTC')::date = b.day
    returning m.*
  ) insert into usage_quarantine select *, now() from aside;
end $$;
