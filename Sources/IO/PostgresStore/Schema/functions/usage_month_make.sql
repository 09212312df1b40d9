-- Makes one month's partition and attaches it. The month's rows of the default partition move
-- first, while readers still find them where they were. Only attaching locks readers out. For a
-- large default partition it is proved beforehand that no row of the month is left, so the lock
-- does not last longer than with a small one. For that, usage_month_keep_out must come first, in a
-- separate transaction. Attaching waits at most 100 ms, because others would queue behind it. After
-- that this raises lock_not_available, and the caller tries again later. If the default partition
-- is large and the month is not kept out of it, nothing is made and the result is false. A default
-- partition of more than 4 GB is too large for statements of 60 seconds. Only such a one is looked
-- through under the lock if nothing of it moves.
create function usage_month_make(parent text, month date) returns boolean
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
    -- While this holds the lock, merges append, and nothing writes the rows that move. Only a close
    -- waits behind this.
    perform set_config('lock_timeout', '5s', true);
    perform pg_advisory_xact_lock(usage_combine_lock_key());
    if is_kept_out and not exists (
      select from pg_constraint where conrelid = rest::regclass and conname = without)
    then return false; end if;
    perform set_config('lock_timeout', '100ms', true);
  end if;
  execute format('create table %I (like %I including all) with (fillfactor = 70)', made, parent);
  if is_hour then
    -- Old rows are found by an index of pages, not of rows, which merges do not have to maintain.
    execute format('create index %I on %I using brin (hour)
      with (pages_per_range = 32, autosummarize = on)', made || '_by_hour', made);
  else
    execute format('alter table %I add constraint %I check (
        (day::timestamp at time zone ''UTC'') >= %L and (day::timestamp at time zone ''UTC'') < %L)',
      made, made || '_bucket', start, finish);
  end if;
  -- With this constraint, attaching does not scan the rows that have moved.
  execute format('alter table %I add constraint %I check (%I >= %L and %I < %L)',
    made, made || '_month', key, lower_bound, key, upper_bound);
  if waits then
    execute format('with moved as (delete from only %I where %I >= %L and %I < %L returning *)
      insert into %I select * from moved', rest, key, lower_bound, key, upper_bound, made);
    get diagnostics moved = row_count;
  end if;
  if is_kept_out then
    -- Readers and writers continue meanwhile. A vacuum gives way after a second.
    perform set_config('lock_timeout', '5s', true);
    execute format('alter table %I validate constraint %I', rest, without);
    perform set_config('lock_timeout', '100ms', true);
  end if;
  -- If the work took long, attaching is tried again, so that it need not be repeated because of a
  -- reader that is about to end.
  for tries in reverse case when is_kept_out or moved > 10000 then 50 else 1 end..1 loop
    begin
      -- A reader that knows only the old partitions must have an old snapshot as well. Otherwise it
      -- would find the rows neither in the default partition nor in this one.
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
