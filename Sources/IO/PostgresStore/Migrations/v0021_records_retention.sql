-- Alerts, dead letters and reports of producers leave after 400 days, as hours do.

update schema_version set version = 21;

-- Removes alerts of 400 days ago with their deliveries and attempts, unless a delivery is still to be made. Answers how many.
create function alert_retain(most int) returns bigint
language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  removed bigint;
begin
  delete from alert where alert_id = any (array(
    select a.alert_id from alert a
    where a.occurred_at < now() - interval '400 days'
      and a.created_at < now() - interval '400 days'
      and not exists (
        select from webhook_delivery d where d.alert_id = a.alert_id and d.status = 'pending')
    order by a.occurred_at limit most for update skip locked));
  get diagnostics removed = row_count;
  return removed;
end $$;

-- Removes dead letters of 400 days ago that were forwarded, once the log has their records no more: as long as it does,
-- a recount finds them there. Answers how many.
--
-- lows: the low watermark of each partition.
create function dead_letter_retain(
  of_group text, of_topic text, partitions int[], lows bigint[], most int
) returns bigint language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  removed bigint;
begin
  delete from dead_letter where ctid = any (array(
    select d.ctid from dead_letter d
    join consumer_offset o on o.consumer_group = d.consumer_group and o.topic = d.topic
      and o.partition = d.partition
    left join unnest(partitions, lows) l(partition, low) on l.partition = d.partition
    where d.received_at < now() - interval '400 days' and d.consumer_group = of_group
      and d.topic = of_topic and d.forwarded_at is not null
      and (d.log_epoch < o.log_epoch or d.log_offset < l.low)
    limit most for update of d skip locked));
  get diagnostics removed = row_count;
  return removed;
end $$;

-- Looks at the next reports behind the producer `after`, and removes those of 400 days ago, with what was counted, of
-- producers that no partition remembers: they are numbers of a ledger that nobody continues. Sequences that are
-- remembered stay for good. Answers the last producer that was looked at; null: there are no more.
create function producer_report_retain(of_group text, of_topic text, after text, most int)
returns text language sql as $$
  with page as (
    select producer, reported_at from producer_report
    where consumer_group = of_group and topic = of_topic and producer > after collate "C"
    order by producer limit most
  ), due as (
    select p.producer from page p
    where p.reported_at < now() - interval '400 days' and not exists (
      select from producer_sequence s
      where s.consumer_group = of_group and s.topic = of_topic and s.producer = p.producer
        and not s.forgotten)
  ), sequences as (
    delete from producer_sequence s using due d
    where s.consumer_group = of_group and s.topic = of_topic and s.producer = d.producer
      and s.forgotten
  ), reports as (
    delete from producer_report r using due d
    where r.consumer_group = of_group and r.topic = of_topic and r.producer = d.producer
      and r.reported_at < now() - interval '400 days'
  )
  select case when count(*) = most then max(producer) end from page
$$;

-- What partitions and tables of before a migration lack, one statement each, which `meterctl migrate` runs
-- behind the migrations and outside of a transaction: nobody waits for an index that is made
-- concurrently or a constraint that is validated. An index whose making was cut off is dropped and
-- made again, by the next run.
create or replace view usage_partition_repair as
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
