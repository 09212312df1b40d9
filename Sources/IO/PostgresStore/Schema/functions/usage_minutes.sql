-- A license's minutes in [from_time, to_time), as `usage_by_minute` shows them. It reads only the
-- hours that contain them.
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
      select w.meter, w.hour, w.event_count, w.minutes from usage_waiting_of(array[license]) w
      where w.hour > from_time - interval '1 hour' and w.hour < to_time
    ) p group by 1, 2
  ) u, lateral (
    select (e->>0)::int as minute, sum((e->>1)::bigint)::bigint as quantity,
      sum((e->>2)::bigint)::bigint as event_count, sum(sum((e->>2)::bigint)) over () as all_events
    from json_array_elements(('[' || u.minutes || ']')::json) e group by 1
  ) m
  where m.all_events = u.all_events
    and (u.hour > (select newest_hour_gone from usage_retention)
      or not usage_hour_gone(license, u.meter, u.hour))
    and u.hour + make_interval(mins => m.minute) >= from_time
    and u.hour + make_interval(mins => m.minute) < to_time
$$;
