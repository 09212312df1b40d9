-- Creates one month's partition and attaches it. It is created outside of the tree, so that only
-- attaching it needs a lock. That lock is given up after 100 ms: then this raises
-- lock_not_available, and the caller tries again later. A few rows of the month are moved from the
-- default partition. If there are many, the result is false and they stay.
create function usage_month_make(parent text, month date) returns boolean
language plpgsql set lock_timeout = '100ms' as $$
declare
  made text := parent || '_' || to_char(month, 'YYYYMM');
  is_hour boolean := parent = 'usage_hour';
  key text := case when parent = 'usage_hour' then 'hour' else 'day' end;
  start timestamptz := month::timestamp at time zone 'UTC';
  finish timestamptz := (month + interval '1 month') at time zone 'UTC';
  lower_bound text := case when is_hour then start::text else month::text end;
  upper_bound text := case when is_hour then finish::text
    else (month + interval '1 month')::date::text end;
  waiting bigint;
begin
  execute format('select count(*) from (select from only %I where %I >= %L and %I < %L limit 10001) f',
    parent || '_default', key, lower_bound, key, upper_bound) into waiting;
  if waiting > 10000 then return false; end if;
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
  if waiting > 0 then
    execute format('lock table %I in access exclusive mode', parent || '_default');
    execute format('with moved as (delete from only %I where %I >= %L and %I < %L returning *)
      insert into %I select * from moved', parent || '_default', key, lower_bound, key, upper_bound,
      made);
  end if;
  execute format('alter table %I attach partition %I for values from (%L) to (%L)',
    parent, made, lower_bound, upper_bound);
  return true;
end $$;
