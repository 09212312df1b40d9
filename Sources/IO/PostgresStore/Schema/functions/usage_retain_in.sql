-- Clears and drops what is due in one partition. The day of a dropped hour remembers which one it
-- was. Days are locked in the order of their keys, as merges lock them. If a row is in a month that
-- is just being kept out of the default partition, nothing changes, and a later call finds the row
-- in the month's own partition.
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
