-- Takes what is pending of some partitions, in one transaction, so that every reader sees each event
-- once: pending before, merged after. Large merges append, small ones write the hour and day rows.
create or replace function usage_merge(owned int[], isolate boolean default false) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  moved bigint;
  start tid := usage_queue_start('usage_pending');
  last_place tid;
begin
  perform pg_advisory_xact_lock_shared(limit_lock_key());
  if start is null and not exists (select from only usage_pending where partition = any (owned))
  then return 0; end if;
  create temp table if not exists merging (like usage_pending) on commit delete rows;
  if start is null then
    with taken as (
      delete from only usage_pending where partition = any (owned) returning *
    ) insert into merging select * from taken;
    get diagnostics moved = row_count;
  else
    with taken as (
      delete from only usage_pending p where p.partition = any (owned) and p.ctid >= start
      returning p.*, p.ctid as place
    ), kept as (
      insert into merging select log_epoch, partition, license_id, meter, hour, first_offset,
        last_offset, quantity, event_count, minutes, dimensions from taken
    ) select count(*), max(place) into moved, last_place from taken;
    perform usage_queue_taken('usage_pending', last_place);
  end if;
  if moved = 0 then return 0; end if;
  if isolate then
    perform usage_merging_isolate();
    perform usage_merging_settle();
  elsif usage_merging_appends(moved) then
    perform usage_merging_append();
  else
    perform usage_merging_settle();
  end if;
  perform usage_merging_count();
  return moved;
end $$;
