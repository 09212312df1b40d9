-- No partial hour or minute is shown without the rest of it. Minutes leave after 7 days and hours after 400 days; a late
-- event that comes afterwards made an hour of one minute, or a day of one hour, which looked whole.

update schema_version set version = 20;

-- The latest hour of which retention has dropped a row: only up to it must views ask whether an hour is gone.
create table usage_retention (
  only_row boolean primary key default true
    constraint usage_retention_is_one_row check (only_row),
  newest_hour_gone timestamptz not null default '-infinity'
);

insert into usage_retention default values;

-- Whether the row of an hour was dropped by retention. A function, so that a view which asks it is not planned for every
-- pair of months.
create function usage_hour_gone(license text, of_meter text, of_hour timestamptz) returns boolean
language plpgsql stable parallel safe as $$
begin
  return exists (
    select from usage_day d
    where d.license_id = license and d.meter = of_meter
      and d.day = (of_hour at time zone 'UTC')::date
      and (d.hours_gone >> extract(hour from of_hour at time zone 'UTC')::int) & 1 = 1);
end $$;

-- A license's minutes in [from_time, to_time), as `usage_by_minute` shows them. Only the hours that hold them are read.
create or replace function usage_minutes(license text, from_time timestamptz, to_time timestamptz)
returns table (meter text, bucket_start timestamptz, quantity bigint, event_count bigint)
language sql stable parallel safe as $$
  select u.meter, u.hour + make_interval(mins => m.minute), m.quantity, m.event_count
  from (
    select p.meter, p.hour, sum(p.event_count) as all_events,
      string_agg(nullif(p.minutes, ''), ',') as minutes
    from (
      select h.meter, h.hour, h.event_count, h.minutes from usage_hour h
      where h.license_id = license and h.hour > from_time - interval '1 hour' and h.hour < to_time
      union all
      select w.meter, w.hour, w.event_count, w.minutes from usage_pending w
      where w.license_id = license and w.hour > from_time - interval '1 hour' and w.hour < to_time
    ) p group by 1, 2
  ) u, lateral (
    select (e->>0)::int as minute, sum((e->>1)::bigint)::bigint as quantity,
      sum((e->>2)::bigint)::bigint as event_count, sum(sum((e->>2)::bigint)) over () as all_events
    from json_array_elements(('[' || u.minutes || ']')::json) e group by 1
  ) m
  where m.all_events = u.all_events and u.hour + make_interval(mins => m.minute) >= from_time
    and u.hour + make_interval(mins => m.minute) < to_time
$$;

-- Clears and drops what is due in one partition. The day of a dropped hour remembers which one it was. Days are locked
-- in the order of their keys, as merges lock them.
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
end $$;

-- Adding the column and replacing the views lock readers out for a moment. Whoever is in the way is not waited for longer
-- than 150 ms, because others would queue behind this.
do $do$
begin
  perform set_config('lock_timeout', '150ms', true);
  for tries in 1..1000 loop
    begin
      alter table usage_day add column hours_gone int not null default 0;
      create or replace view usage_by_hour as
      select license_id, meter, hour as bucket_start,
        sum(quantity)::bigint as quantity, sum(event_count)::bigint as event_count
      from (
        select license_id, meter, hour, quantity, event_count from usage_hour
        union all
        select license_id, meter, hour, quantity, event_count from usage_pending
      ) u
      where hour > (select newest_hour_gone from usage_retention)
        or not usage_hour_gone(license_id, meter, hour)
      group by license_id, meter, hour;
      create or replace view usage_provenance as
      select license_id, meter, hour as bucket_start, log_epoch, partition,
        min(first_offset) as first_offset, max(last_offset) as last_offset
      from (
        select license_id, meter, hour, log_epoch, partition, first_offset, last_offset from usage_hour
        union all
        select license_id, meter, hour, log_epoch, partition, first_offset, last_offset from usage_pending
      ) u
      where hour > (select newest_hour_gone from usage_retention)
        or not usage_hour_gone(license_id, meter, hour)
      group by license_id, meter, hour, log_epoch, partition;
      create or replace view usage_by_minute as
      select u.license_id, u.meter, u.hour + make_interval(mins => m.minute) as bucket_start, m.quantity,
        m.event_count
      from (
        select license_id, meter, hour, sum(event_count) as all_events,
          string_agg(nullif(minutes, ''), ',') as minutes
        from (
          select license_id, meter, hour, event_count, minutes from usage_hour
          union all
          select license_id, meter, hour, event_count, minutes from usage_pending
        ) parts group by 1, 2, 3
      ) u, lateral (
        select (e->>0)::int as minute, sum((e->>1)::bigint)::bigint as quantity,
          sum((e->>2)::bigint)::bigint as event_count, sum(sum((e->>2)::bigint)) over () as all_events
        from json_array_elements(('[' || u.minutes || ']')::json) e group by 1
      ) m
      where m.all_events = u.all_events;
      exit;
    exception when lock_not_available then
      if tries = 1000 then raise; end if;
      perform pg_sleep(0.1);
    end;
  end loop;
end $do$;
