-- Adds appended rows to the hour and day rows, for up to about `most` of the next licenses. Returns
-- how many, or 0 if nothing is due or a merge is writing hour and day rows. The walk takes the rows
-- of hours that are over, and earlier those of a key that has many. It takes all rows if nothing
-- was appended for five seconds. usage_fold calls it, and its lock keeps a second walk away. Each
-- call is one transaction, so a call that is cut off has done nothing.
create function usage_combine(most int) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  state usage_append_state;
  appended bigint;
  last_license text collate "C";
  -- The hours before this one are over, except for late events.
  present timestamptz := date_trunc('hour', now() - interval '2 minutes', 'UTC');
  -- Rows of these months would be appended again by usage_merging_settle.
  kept_out tstzrange[];
  moved bigint;
begin
  select * into state from usage_append_state;
  if state.walked_through is null then
    if not exists (select from usage_appended) then return 0; end if;
    select last_value into appended from usage_append_count;
    if appended <> state.seen then
      state.seen_at := now();
      update usage_append_state set seen = appended, seen_at = now();
    end if;
    state.is_whole := state.seen_at < now() - interval '5 seconds';
    if not state.is_whole and state.began >= present
      and appended < state.merges + state.walk_merges
    then return 0; end if;
    state.walked_through := '';
    update usage_append_state set walked_through = '', is_whole = state.is_whole, began = now(),
      merges = appended;
  end if;
  if not pg_try_advisory_xact_lock(usage_combine_lock_key()) then return 0; end if;
  select license_id into last_license from usage_appended where license_id > state.walked_through
  order by license_id offset most - 1 limit 1;
  if last_license is null then
    select max(license_id) into last_license from usage_appended
    where license_id > state.walked_through;
  end if;
  update usage_append_state set walked_through = last_license;
  if last_license is null then return 0; end if;

  kept_out := usage_months_kept_out();
  create temp table if not exists merging (like usage_pending) on commit delete rows;
  with chosen as (
    select ctid as place, hour, count(*) over (partition by license_id, meter, hour) as key_rows
    from usage_appended where license_id > state.walked_through and license_id <= last_license
      and (hour <@ any (kept_out)) is not true
  ), taken as (
    delete from usage_appended where ctid = any (array(
      select place from chosen
      where state.is_whole or hour < present or key_rows >= state.key_rows))
    returning *
  ) insert into merging select * from taken;
  get diagnostics moved = row_count;
  if moved = 0 then return 1; end if;
  perform usage_merging_settle_fitting();
  return moved;
end $$;
