-- Minutes can be read by their hour.
--
-- A condition on the bucket_start of usage_by_minute cannot reach the index and the partitions, because
-- bucket_start is computed from the hour and the text of its minutes. So `meterctl reconcile` expanded
-- the minutes of every hour that is stored, however short its range was. usage_hour_minutes has the same
-- rows with their hour, and usage_by_minute is that view without the hour.

update schema_version set version = 34;

create view usage_hour_minutes as
select u.license_id, u.meter, u.hour, m.minute,
  u.hour + make_interval(mins => m.minute) as bucket_start, m.quantity, m.event_count
from (
  select license_id, meter, hour, sum(event_count) as all_events,
    string_agg(nullif(minutes, ''), ',') as minutes
  from (
    select license_id, meter, hour, event_count, minutes from usage_hour
    union all
    select license_id, meter, hour, event_count, minutes from usage_waiting
  ) parts group by 1, 2, 3
) u, lateral (
  select (e->>0)::int as minute, sum((e->>1)::bigint)::bigint as quantity,
    sum((e->>2)::bigint)::bigint as event_count, sum(sum((e->>2)::bigint)) over () as all_events
  from json_array_elements(('[' || u.minutes || ']')::json) e group by 1
) m
where m.all_events = u.all_events;

-- Replacing a view waits for its readers, and other readers would queue behind. So the lock is given up
-- after a moment and tried again.
do $do$
declare
  tries int := 0;
begin
  perform set_config('lock_timeout', '100ms', true);
  loop
    tries := tries + 1;
    begin
      create or replace view usage_by_minute as
      select license_id, meter, bucket_start, quantity, event_count from usage_hour_minutes;
      exit;
    exception when lock_not_available then
      if tries = 2000 then raise; end if;
      perform pg_sleep(0.1);
    end;
  end loop;
  perform set_config('lock_timeout', '0', true);
end $do$;
