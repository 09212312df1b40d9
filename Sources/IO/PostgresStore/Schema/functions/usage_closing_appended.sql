-- Whether something of the periods in `closing` is appended. It is looked up by the index, whatever
-- the planner guesses.
create function usage_closing_appended() returns boolean
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  return exists (
    select from closing c, lateral (
      select from usage_appended u where u.license_id = c.license_id
        and u.hour < c.boundary::timestamp at time zone 'UTC' limit 1) a);
end $$;
