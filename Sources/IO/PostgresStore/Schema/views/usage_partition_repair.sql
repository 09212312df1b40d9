-- The statements for what partitions and tables from before a migration lack. `meterctl migrate`
-- runs them after the migrations and outside of a transaction, so nobody waits for an index that is
-- made concurrently or a constraint that is validated. If making an index was cut off, the next run
-- drops it and makes it again.
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
