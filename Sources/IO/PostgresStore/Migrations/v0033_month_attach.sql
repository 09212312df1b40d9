-- Partitions that are attached without a look through the default partition under an exclusive lock.
--
-- Attaching a month proved that no row of the default partition belongs to it, while readers and merges
-- waited. With 5,000,000 rows there they waited for half a second. Now a CHECK keeps the month out of the
-- default partition first, and is validated while others read and write. Meanwhile merges leave rows of
-- that month in usage_appended, where every reader adds them.
--
-- Services of an older version call the same functions, and go on calling until nothing is left to make.

update schema_version set version = 33;

-- The months that are kept out of a default partition while their own partition is made. A row of an hour
-- or day in them would be refused there, so it stays in usage_appended. Whoever writes hours and days holds
-- usage_combine_lock_key() before this is asked, and then the answer stays true until the transaction ends.
create function usage_months_kept_out() returns tstzrange[] language sql stable as $$
  select coalesce(array_agg(tstzrange(m.month at time zone 'UTC',
    (m.month + interval '1 month') at time zone 'UTC')), '{}')
  from pg_constraint k, lateral (
    select to_date(right(k.conname, 6), 'YYYYMM')::timestamp as month) m
  where k.conrelid in ('usage_hour_default'::regclass, 'usage_day_default'::regclass)
    and k.conname ~ '^usage_(hour|day)_default_without_[0-9]{6}$'
$$;

-- Keeps a month's new rows out of a large default partition, so that usage_month_make can prove outside of
-- its exclusive lock that no row of the month is left there. Returns whether it did; then the month's
-- partition is made in a later transaction. It does nothing if the default partition is small or larger than
-- 4 GB, if the month is kept out already, or if more rows of it wait than one statement moves in time.
create function usage_month_keep_out(parent text, month date) returns boolean
language plpgsql set lock_timeout = '100ms' as $$
declare
  rest text := parent || '_default';
  without text := rest || '_without_' || to_char(month, 'YYYYMM');
  key text := case when parent = 'usage_hour' then 'hour' else 'day' end;
  lower_bound text := case when parent = 'usage_hour'
    then (month::timestamp at time zone 'UTC')::text else month::text end;
  upper_bound text := case when parent = 'usage_hour'
    then ((month + interval '1 month') at time zone 'UTC')::text
    else (month + interval '1 month')::date::text end;
  waiting bigint;
begin
  if pg_relation_size(rest) not between 16000001 and 4000000000 or exists (
    select from pg_constraint where conrelid = rest::regclass and conname = without)
  then return false; end if;
  execute format('select count(*) from (select from only %I where %I >= %L and %I < %L limit 1000001) w',
    rest, key, lower_bound, key, upper_bound) into waiting;
  if waiting > 1000000 then return false; end if;
  -- Whoever writes hours and days has ended, and the next one sees the constraint. Nobody waits behind
  -- this but a close, so it may take longer.
  perform set_config('lock_timeout', '5s', true);
  perform pg_advisory_xact_lock(usage_combine_lock_key());
  perform set_config('lock_timeout', '100ms', true);
  execute format('alter table %I add constraint %I check (%I < %L or %I >= %L) not valid',
    rest, without, key, lower_bound, key, upper_bound);
  return true;
end $$;

-- Makes one month's partition and attaches it. The month's rows of the default partition move first,
-- while readers still find them where they were. Only attaching locks readers out. Of a large default
-- partition it is proved before that no row of the month is left, so the lock does not last longer than
-- with a small one; usage_month_keep_out has to come first, in a transaction of its own. Attaching waits
-- for nobody longer than 100 ms, because others would queue behind it: then this raises
-- lock_not_available, and the caller tries again later. If the default partition is large and the month is
-- not kept out of it, the result is false, and nothing is made. Only one of more than 4 GB, which the
-- statements of 60 seconds are too short for, is looked through under the lock if nothing of it moves.
create or replace function usage_month_make(parent text, month date) returns boolean
language plpgsql set lock_timeout = '100ms' as $$
declare
  rest text := parent || '_default';
  made text := parent || '_' || to_char(month, 'YYYYMM');
  without text := rest || '_without_' || to_char(month, 'YYYYMM');
  is_hour boolean := parent = 'usage_hour';
  key text := case when parent = 'usage_hour' then 'hour' else 'day' end;
  start timestamptz := month::timestamp at time zone 'UTC';
  finish timestamptz := (month + interval '1 month') at time zone 'UTC';
  lower_bound text := case when is_hour then start::text else month::text end;
  upper_bound text := case when is_hour then finish::text
    else (month + interval '1 month')::date::text end;
  rest_bytes bigint := pg_relation_size(rest);
  is_kept_out boolean := exists (
    select from pg_constraint where conrelid = rest::regclass and conname = without);
  waits boolean := true;
  moved bigint := 0;
begin
  if not is_kept_out then
    if rest_bytes > 16000000 and rest_bytes <= 4000000000 then return false; end if;
    execute format('select exists (select from only %I where %I >= %L and %I < %L)',
      rest, key, lower_bound, key, upper_bound) into waits;
    if waits and rest_bytes > 16000000 then return false; end if;
  end if;
  if is_kept_out or waits then
    -- Meanwhile merges append, and nothing writes the rows that move. Only a close waits behind this.
    perform set_config('lock_timeout', '5s', true);
    perform pg_advisory_xact_lock(usage_combine_lock_key());
    if is_kept_out and not exists (
      select from pg_constraint where conrelid = rest::regclass and conname = without)
    then return false; end if;
    perform set_config('lock_timeout', '100ms', true);
  end if;
  execute format('create table %I (like %I including all) with (fillfactor = 70)', made, parent);
  if is_hour then
    -- Which rows are old is asked of an index that merges do not have to keep up: pages, not rows.
    execute format('create index %I on %I using brin (hour)
      with (pages_per_range = 32, autosummarize = on)', made || '_by_hour', made);
  else
    execute format('alter table %I add constraint %I check (
        (day::timestamp at time zone ''UTC'') >= %L and (day::timestamp at time zone ''UTC'') < %L)',
      made, made || '_bucket', start, finish);
  end if;
  -- With it the attaching does not look through what has moved.
  execute format('alter table %I add constraint %I check (%I >= %L and %I < %L)',
    made, made || '_month', key, lower_bound, key, upper_bound);
  if waits then
    execute format('with moved as (delete from only %I where %I >= %L and %I < %L returning *)
      insert into %I select * from moved', rest, key, lower_bound, key, upper_bound, made);
    get diagnostics moved = row_count;
  end if;
  if is_kept_out then
    -- Readers and writers go on meanwhile. A vacuum gives way after a second.
    perform set_config('lock_timeout', '5s', true);
    execute format('alter table %I validate constraint %I', rest, without);
    perform set_config('lock_timeout', '100ms', true);
  end if;
  -- What took long is not done again for a reader that is about to end.
  for tries in reverse case when is_kept_out or moved > 10000 then 50 else 1 end..1 loop
    begin
      -- A reader that knows the partitions of before must have its snapshot of before as well: it would
      -- find the rows neither in the default partition nor in this one.
      if moved > 0 then execute format('lock table only %I in access exclusive mode', parent); end if;
      execute format('alter table %I attach partition %I for values from (%L) to (%L)',
        parent, made, lower_bound, upper_bound);
      exit;
    exception when lock_not_available then
      if tries = 1 then raise; end if;
      perform pg_sleep(0.1);
    end;
  end loop;
  if is_kept_out then execute format('alter table %I drop constraint %I', rest, without); end if;
  execute format('alter table %I drop constraint %I', made, made || '_month');
  return true;
end $$;

-- Does the next step towards missing partitions. It returns the name of the partition that it made, or
-- that of the default partition if it only keeps a month out of that; null if nothing is left to do. Each
-- call is a transaction, so that no lock is held longer than needed. A month that is kept out comes first,
-- so a run that was cut off is finished by the next one.
create or replace function usage_month_make_next(months_ahead int) returns text language plpgsql as $$
declare
  missing record;
begin
  for missing in
    select split_part(conname, '_default_', 1) as parent, to_date(right(conname, 6), 'YYYYMM') as month
    from pg_constraint
    where conrelid in ('usage_hour_default'::regclass, 'usage_day_default'::regclass)
      and conname ~ '^usage_(hour|day)_default_without_[0-9]{6}$' order by conname
  loop
    if usage_month_make(missing.parent, missing.month) then
      return missing.parent || '_' || to_char(missing.month, 'YYYYMM');
    end if;
  end loop;
  for missing in
    select parent, month from unnest(array['usage_hour', 'usage_day']) parent,
      usage_months_missing(parent, months_ahead) month
    order by month < date_trunc('month', now() at time zone 'UTC')::date, month
  loop
    if usage_month_keep_out(missing.parent, missing.month) then
      return missing.parent || '_default';
    end if;
    if usage_month_make(missing.parent, missing.month) then
      return missing.parent || '_' || to_char(missing.month, 'YYYYMM');
    end if;
  end loop;
  return null;
end $$;

-- Lets months into the default partitions again whose partitions have not been made. The caller holds
-- usage_combine_lock_key() exclusively, so nobody is making one. Raises lock_not_available if readers leave
-- no moment for it.
create function usage_months_let_in() returns void
language plpgsql set lock_timeout = '100ms' as $$
declare
  kept record;
begin
  for kept in
    select conrelid::regclass as place, conname from pg_constraint
    where conrelid in ('usage_hour_default'::regclass, 'usage_day_default'::regclass)
      and conname ~ '^usage_(hour|day)_default_without_[0-9]{6}$'
  loop
    for tries in reverse 20..1 loop
      begin
        execute format('alter table %s drop constraint %I', kept.place, kept.conname);
        exit;
      exception when lock_not_available then
        if tries = 1 then raise; end if;
        perform pg_sleep(0.05);
      end;
    end loop;
  end loop;
end $$;

-- Adds the rows of `merging` to the hour and day rows. They are written in the order of their keys,
-- hours before days, so that those who do it at the same time never deadlock. Rows of months that are kept
-- out of the default partitions are appended. The caller holds usage_combine_lock_key().
create or replace function usage_merging_settle() returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  kept_out tstzrange[] := usage_months_kept_out();
begin
  -- A close writes all rows. It holds the lock exclusively, and so does whoever makes a partition.
  if kept_out <> '{}' and to_regclass('pg_temp.closing') is not null then
    if exists (select from closing) then
      perform usage_months_let_in();
      kept_out := '{}';
    end if;
  end if;
  if kept_out <> '{}' then
    insert into usage_appended select * from merging where hour <@ any (kept_out);
  end if;
  insert into usage_hour as h (license_id, meter, hour, log_epoch, partition, first_offset, last_offset,
    quantity, event_count, minutes)
  select license_id, meter, hour, log_epoch, partition, min(first_offset), max(last_offset),
    sum(quantity)::bigint, sum(event_count)::bigint, string_agg(minutes, ',')
  from merging where (hour <@ any (kept_out)) is not true
  group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5
  on conflict (license_id, meter, hour, log_epoch, partition) do update set
    first_offset = least(h.first_offset, excluded.first_offset),
    last_offset = greatest(h.last_offset, excluded.last_offset),
    quantity = h.quantity + excluded.quantity,
    event_count = h.event_count + excluded.event_count,
    minutes = case when length(h.minutes) > greatest(900, 2 * h.minutes_compacted)
      then usage_minutes_compact(concat_ws(',', nullif(h.minutes, ''), excluded.minutes))
      else concat_ws(',', nullif(h.minutes, ''), excluded.minutes) end,
    minutes_compacted = case when length(h.minutes) > greatest(900, 2 * h.minutes_compacted)
      then least(length(h.minutes) / 2, 1500) else h.minutes_compacted end,
    written_at = now();
  insert into usage_day as d (license_id, meter, day, quantity, event_count, dimensions)
  select license_id, meter, (hour at time zone 'UTC')::date, sum(quantity)::bigint, sum(event_count)::bigint,
    coalesce(string_agg(nullif(dimensions, ''), ','), '')
  from merging where (hour <@ any (kept_out)) is not true group by 1, 2, 3 order by 1, 2, 3
  on conflict (license_id, meter, day) do update set
    quantity = d.quantity + excluded.quantity,
    event_count = d.event_count + excluded.event_count,
    dimensions = case when length(d.dimensions) > greatest(1200, 2 * d.dimensions_compacted)
      then usage_dimensions_compact(concat_ws(',', nullif(d.dimensions, ''), nullif(excluded.dimensions, '')),
        (select domains from license l where l.license_id = d.license_id))
      else concat_ws(',', nullif(d.dimensions, ''), nullif(excluded.dimensions, '')) end,
    dimensions_compacted = case when length(d.dimensions) > greatest(1200, 2 * d.dimensions_compacted)
      then least(length(d.dimensions) / 2, 40000) else d.dimensions_compacted end,
    written_at = now();
end $$;

-- Adds appended rows to the hour and day rows, up to about so many of the next licenses, and answers
-- how many; 0: nothing is due, or a merge writes hour and day rows just now. The walk takes the rows
-- of hours that are over, before that those of a key that has many, and all where nothing was appended
-- for five seconds. It is called by usage_fold, whose lock keeps a second walk away. One transaction:
-- what is cut off has done nothing.
create or replace function usage_combine(most int) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  state usage_append_state;
  appended bigint;
  last_license text collate "C";
  -- The hours before this one are over, but for what comes late.
  present timestamptz := date_trunc('hour', now() - interval '2 minutes', 'UTC');
  -- Rows that usage_merging_settle would append again.
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
  begin
    perform usage_merging_settle();
  exception when check_violation or numeric_value_out_of_range then
    -- What does not fit stays appended, where readers see it as well, and stops nobody else's.
    with broken as materialized (
      select * from usage_merging_beyond(-1e30, 100000000000000000)
    ), kept as (
      delete from merging m using broken b where m.license_id = b.license_id
        and m.meter = b.meter and (m.hour at time zone 'UTC')::date = b.day
      returning m.*
    ) insert into usage_appended select * from kept;
    perform usage_merging_settle();
  end;
  return moved;
end $$;

-- Takes what is pending of some partitions, in one transaction, so that every reader sees each event
-- once: pending before, merged after. Large merges append, small ones write the hour and day rows.
create or replace function usage_merge(owned int[], isolate boolean default false) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  moved bigint;
begin
  perform pg_advisory_xact_lock_shared(limit_lock_key());
  moved := usage_merging_take(owned);
  if moved = 0 then return 0; end if;
  if isolate then
    perform usage_merging_isolate();
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

-- Clears and drops what is due in one partition. The day of a dropped hour remembers which one it was. Days are locked
-- in the order of their keys, as merges lock them. If a row lies in a month that is just being kept out of the default
-- partition, nothing changes, and a later call finds the row in the month's own partition.
create or replace function usage_retain_in(place text, start timestamptz, finish timestamptz, max_rows int)
returns bigint language plpgsql as $$
declare
  cleared bigint;
  dropped bigint;
begin
  execute format($q$
    update only %1$I set minutes = '', minutes_compacted = 0
    where ctid = any (array(
        select ctid from only %1$I where hour >= $1 and hour < $2
          and written_at < now() - interval '7 days' and minutes <> ''
        limit $3 for update skip locked)) $q$, place) using start, finish, max_rows;
  get diagnostics cleared = row_count;
  execute format($q$
    with gone as (
      delete from only %1$I
      where ctid = any (array(
          select ctid from only %1$I where hour >= $1 and hour < $2
            and written_at < now() - interval '400 days'
          limit $3 for update skip locked))
      returning license_id, meter, hour at time zone 'UTC' as hour
    ), marks as (
      select license_id, meter, hour::date as day, bit_or(1 << extract(hour from hour)::int) as hours
      from gone group by 1, 2, 3
    ), locked as (
      select d.license_id, d.meter, d.day from usage_day d join marks using (license_id, meter, day)
      order by 1, 2, 3 for no key update of d
    ), marked as (
      update usage_day d set hours_gone = d.hours_gone | m.hours
      from marks m join locked l using (license_id, meter, day)
      where d.license_id = m.license_id and d.meter = m.meter and d.day = m.day
    ), newest as (
      update usage_retention set newest_hour_gone = g.hour at time zone 'UTC'
      from (select max(hour) as hour from gone) g
      where newest_hour_gone < g.hour at time zone 'UTC'
    ) select count(*) from gone $q$, place) into dropped using start, finish, max_rows - cleared;
  return cleared + dropped;
exception when check_violation then
  return 0;
end $$;
