-- Months of any size leave the default partition.
--
-- More than 10,000 rows of a month stayed there for ever, because they moved while everybody was locked
-- out of it. Now they move first. A reader that began to plan before the move and looked at the rows
-- behind it found them nowhere; that cannot happen any more.

update schema_version set version = 31;

-- Makes one month's partition and attaches it. The month's rows of the default partition move over
-- before, while readers still find them where they were. Only the attaching locks readers out, for as
-- long as it takes to look through the default partition. It waits for nobody longer than 100 ms, since
-- others would queue behind it: then this raises lock_not_available, and whoever called it tries again
-- later. Where the default partition is too large for that, the answer is false, and the rows stay.
create or replace function usage_month_make(parent text, month date) returns boolean
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
  waits boolean;
  moved bigint := 0;
begin
  execute format('select exists (select from only %I where %I >= %L and %I < %L)',
    parent || '_default', key, lower_bound, key, upper_bound) into waits;
  if waits and pg_relation_size(parent || '_default') > 250000000 then return false; end if;
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
    -- Meanwhile merges append, and nothing writes the rows that move.
    perform pg_advisory_xact_lock(usage_combine_lock_key());
    execute format('with moved as (delete from only %I where %I >= %L and %I < %L returning *)
      insert into %I select * from moved', parent || '_default', key, lower_bound, key, upper_bound,
      made);
    get diagnostics moved = row_count;
  end if;
  -- Many rows are not moved again for a reader that is about to end.
  for tries in reverse case when moved > 10000 then 50 else 1 end..1 loop
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
  execute format('alter table %I drop constraint %I', made, made || '_month');
  return true;
end $$;
