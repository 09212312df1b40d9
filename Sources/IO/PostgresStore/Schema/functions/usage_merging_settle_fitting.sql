-- Adds the rows of `merging`, which were appended before, to the hour and day rows. What does not fit
-- stays appended, where readers see it as well, and stops nobody else's. The caller holds
-- usage_combine_lock_key().
create function usage_merging_settle_fitting() returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
begin
  perform usage_merging_settle();
exception when check_violation or numeric_value_out_of_range then
  with broken as materialized (
    select * from usage_merging_beyond(-1e30, 100000000000000000)
  ), kept as (
    delete from merging m using broken b where m.license_id = b.license_id
      and m.meter = b.meter and (m.hour at time zone 'UTC')::date = b.day
    returning m.*
  ) insert into usage_appended select * from kept;
  perform usage_merging_settle();
end $$;
