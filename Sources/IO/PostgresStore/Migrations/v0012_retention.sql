-- Partitions of months without a queue behind an exclusive lock, retention without a walk over all
-- rows, and conditions on a day's bucket_start that leave out the other months.

update schema_version set version = 12;

-- Partitions of months ---------------------------------------------------------------------------

-- The months that a table lacks a partition of: those of the months ahead, those that were missed
-- while nobody made any, those that a running import reaches, and those whose rows the default
-- partition holds.
create function usage_months_missing(parent text, months_ahead int) returns setof date
language plpgsql stable as $$
declare
  this_month date := date_trunc('month', now() at time zone 'UTC')::date;
  first_month date;
begin
  select least(this_month,
      greatest(min(to_date(right(c.relname, 6), 'YYYYMM'))
        filter (where c.relname ~ '_[0-9]{6}$'), (this_month - interval '13 months')::date),
      -- An import of the distant past stays in the default partition: planning pays for each month.
      (select date_trunc('month', greatest(min(b.oldest_time), now() - interval '36 months')
        at time zone 'UTC')::date
        from import_batch b where b.status = 'running' having count(*) > 0))
    into first_month
  from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = parent::regclass;
  return query execute format($q$
    select m from (
      select g::date as m
      from generate_series($1::timestamp, $2::timestamp + make_interval(months => $3), '1 month') g
      union
      select date_trunc('month', %s)::date from only %I
    ) months where to_regclass(%L || to_char(m, 'YYYYMM')) is null order by m $q$,
    case parent when 'usage_hour' then 'hour at time zone ''UTC''' else 'day::timestamp' end,
    parent || '_default', parent || '_')
  using first_month, this_month, months_ahead;
end $$;

-- Makes one month's partition and attaches it. It is made outside of the tree, so that only the
-- attaching needs a lock, which is given up after 100 ms: then this raises lock_not_available, and
-- whoever called it tries again later. Few rows of the month move over from the default partition;
-- where there are many the answer is false, and they stay.
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

-- Makes the next partition that is missing; answers its name, null when none is. One a transaction,
-- so that no lock outlives its use.
create function usage_month_make_next(months_ahead int) returns text language plpgsql as $$
declare
  missing record;
begin
  for missing in
    select parent, month from unnest(array['usage_hour', 'usage_day']) parent,
      usage_months_missing(parent, months_ahead) month
    order by month < date_trunc('month', now() at time zone 'UTC')::date, month
  loop
    if usage_month_make(missing.parent, missing.month) then
      return missing.parent || '_' || to_char(missing.month, 'YYYYMM');
    end if;
  end loop;
  return null;
end $$;

-- Called by aggregators of before this migration, once an hour.
create or replace function create_month_partitions(months_ahead int) returns void
language plpgsql as $$
begin
  perform usage_month_make_next(months_ahead);
exception when lock_not_available then
  raise notice 'a partition could not be attached, and is tried again later';
end $$;

-- What partitions of before this migration lack, one statement each, which `meterctl migrate` runs
-- behind the migrations and outside of a transaction: nobody waits for an index that is made
-- concurrently or a constraint that is validated. An index whose making was cut off is dropped and
-- made again, by the next run.
create view usage_partition_repair as
select format('drop index concurrently %I', x.relname) as statement, 1 as place
from pg_class x join pg_index i on i.indexrelid = x.oid
where x.relname ~ '^usage_hour_[0-9]{6}_by_hour$' and not i.indisvalid
union all
select format('create index concurrently %I on %I using brin (hour) '
  'with (pages_per_range = 32, autosummarize = on)', c.relname || '_by_hour', c.relname), 2
from pg_inherits p join pg_class c on c.oid = p.inhrelid
where p.inhparent = 'usage_hour'::regclass and c.relname ~ '^usage_hour_[0-9]{6}$'
  and to_regclass(c.relname || '_by_hour') is null
union all
select format('alter table %I add constraint %I check ('
  '(day::timestamp at time zone ''UTC'') >= %L and (day::timestamp at time zone ''UTC'') < %L) '
  'not valid', c.relname, c.relname || '_bucket', m::timestamp at time zone 'UTC',
  (m + interval '1 month') at time zone 'UTC'), 3
from pg_inherits p join pg_class c on c.oid = p.inhrelid,
  to_date(right(c.relname, 6), 'YYYYMM') m
where p.inhparent = 'usage_day'::regclass and c.relname ~ '^usage_day_[0-9]{6}$'
  and not exists (select from pg_constraint k where k.conrelid = c.oid
    and k.conname = c.relname || '_bucket')
union all
select format('alter table %I validate constraint %I', k.conrelid::regclass, k.conname), 4
from pg_constraint k where k.conname ~ '^usage_day_[0-9]{6}_bucket$' and not k.convalidated;

-- Small partitions, as those of the months ahead, get it here. Where a reader is in the way, it is
-- left for `meterctl migrate`.
do $$
declare
  repair record;
begin
  perform set_config('lock_timeout', '100ms', true);
  for repair in
    select replace(replace(statement, ' concurrently', ''), ' not valid', '') as statement
    from usage_partition_repair, regexp_match(statement, '(usage_(?:hour|day)_[0-9]{6}) ') name
    where pg_relation_size(name[1]) < 8000000 order by place, statement
  loop
    begin
      execute repair.statement;
    exception when lock_not_available then null;
    end;
  end loop;
  perform set_config('lock_timeout', '0', true);
end $$;

-- Retention --------------------------------------------------------------------------------------

-- When the hours of a day are looked at again for what is due. The row of '-infinity' stands for
-- the default partition.
create table usage_hour_look (
  day date primary key,
  next_look timestamptz not null
);

-- Clears minutes that were last written 7 days ago and drops hours that were 400 days ago, up to
-- max_rows of them. A day's hours are looked at once a day while events may still come for them,
-- and once a week later; the index on hour leads to them. Answers at least 1 where it stopped after
-- two seconds with more to look at; 0: nothing is due.
create or replace function usage_retain(max_rows int) returns bigint
language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  due record;
  touched bigint := 0;
  began timestamptz := clock_timestamp();
begin
  insert into usage_hour_look
  select d::date, now()
  from (
    select min(to_date(right(c.relname, 6), 'YYYYMM')) as first_month,
      max(to_date(right(c.relname, 6), 'YYYYMM')) as last_month
    from pg_inherits p join pg_class c on c.oid = p.inhrelid
    where p.inhparent = 'usage_hour'::regclass and c.relname ~ '^usage_hour_[0-9]{6}$'
  ) months, generate_series(first_month::timestamp, last_month + interval '1 month - 1 day', '1 day') d
  union all select '-infinity', now()
  on conflict do nothing;
  for due in
    select day, to_regclass('usage_hour_' || to_char(day, 'YYYYMM')) as place
    from usage_hour_look where next_look <= now() and isfinite(day) order by next_look, day
  loop
    -- Without the index, a look at a day would walk over its month.
    if due.place is null or pg_relation_size(due.place) > 16000000 and not exists (
      select from pg_index i join pg_class x on x.oid = i.indexrelid
      where x.relname = 'usage_hour_' || to_char(due.day, 'YYYYMM') || '_by_hour' and i.indisvalid)
    then continue; end if;
    touched := touched + usage_retain_in(due.place::text, due.day::timestamp at time zone 'UTC',
      (due.day + 1)::timestamp at time zone 'UTC', max_rows - touched::int);
    if touched >= max_rows then return touched; end if;
    update usage_hour_look set next_look = now() + case
      when due.day > (now() at time zone 'UTC')::date - 45 then interval '1 day'
      else interval '7 days' end
    where day = due.day;
    if clock_timestamp() > began + interval '2 seconds' then return greatest(touched, 1); end if;
  end loop;
  if exists (select from usage_hour_look where next_look <= now() and day = '-infinity') then
    touched := touched + usage_retain_in('usage_hour_default', '-infinity', 'infinity',
      max_rows - touched::int);
    if touched < max_rows then
      update usage_hour_look set next_look = now() + interval '1 day' where day = '-infinity';
    end if;
  end if;
  return touched;
end $$;

create function usage_retain_in(place text, start timestamptz, finish timestamptz, max_rows int)
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
    delete from only %1$I
    where ctid = any (array(
        select ctid from only %1$I where hour >= $1 and hour < $2
          and written_at < now() - interval '400 days'
        limit $3 for update skip locked)) $q$, place) using start, finish, max_rows - cleared;
  get diagnostics dropped = row_count;
  return cleared + dropped;
end $$;
