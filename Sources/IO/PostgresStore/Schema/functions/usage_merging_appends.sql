-- Whether a merge of `merging`, which has `moved` rows, appends them. If it does not, it holds the
-- lock that keeps the combining away, so that neither waits for the other's rows. Raises
-- check_violation if a license's day no longer fits. The caller then tries again and sets that day
-- aside.
create function usage_merging_appends(moved bigint) returns boolean
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  -- A day is looked up only if a row is large. Small rows would need millions of merges to fill the
  -- room that is left below usage_day_fits, and then usage_combine leaves them where they are.
  if exists (select from merging where quantity >= 1000000000) then
    if exists (select from usage_merging_beyond(1000000000, 100000000000000000)) then
      raise exception 'a license-day no longer fits' using errcode = 'check_violation',
        constraint = 'usage_day_fits', table = 'usage_day';
    end if;
    if exists (select from usage_merging_beyond(1000000000, 90000000000000000)) then
      return not pg_try_advisory_xact_lock_shared(usage_combine_lock_key());
    end if;
  end if;
  if moved >= (select least_rows from usage_append_state) then return true; end if;
  return not pg_try_advisory_xact_lock_shared(usage_combine_lock_key());
end $$;
