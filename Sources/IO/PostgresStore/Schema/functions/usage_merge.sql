-- Takes the pending rows of some partitions in one transaction, so that every reader sees each
-- event once: pending before it, and merged after it. Large merges append, and small ones write the
-- hour and day rows.
create or replace function usage_merge(owned int[], isolate boolean default false) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  moved bigint;
begin
  perform pg_advisory_xact_lock_shared(limit_lock_key());
  moved := usage_merging_take(owned);
  if moved = 0 then return 0; end if;
  if isolate then perform usage_merging_isolate(); end if;
  perform usage_closed_domains_keep();
  if isolate then
    if pg_try_advisory_xact_lock_shared(usage_combine_lock_key()) then
      perform usage_merging_settle();
    else
      perform usage_merging_append();
    end if;
  elsif usage_merging_appends(moved) then
    perform usage_merging_append();
  else
    perform usage_merging_settle();
  end if;
  perform usage_merging_count();
  return moved;
end $$;
