-- Moves what is pending of some partitions into the hour and day rows and the limits, in one
-- transaction, so that every reader sees each event once: pending before, merged after.
create or replace function usage_merge(owned int[], isolate boolean default false) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  moved bigint;
begin
  perform pg_advisory_xact_lock_shared(limit_lock_key());
  if not exists (select from usage_pending where partition = any (owned)) then return 0; end if;
  create temp table if not exists merging (like usage_pending) on commit delete rows;
  with taken as (
    delete from usage_pending where partition = any (owned) returning *
  ) insert into merging select * from taken;
  get diagnostics moved = row_count;
  if moved > 0 then perform usage_merge_taken(isolate); end if;
  return moved;
end $$;
