-- A license's minutes in [from_time, to_time). Only the hours that hold them are read.
create function usage_minutes(license text, from_time timestamptz, to_time timestamptz)
returns table (meter text, bucket_start timestamptz, quantity bigint, event_count bigint)
language sql stable parallel safe as $$
  select u.meter, u.hour + make_interval(mins => (e->>0)::int), sum((e->>1)::bigint)::bigint,
    sum((e->>2)::bigint)::bigint
  from (
    select h.meter, h.hour, h.minutes from usage_hour h
    where h.license_id = license and h.hour > from_time - interval '1 hour' and h.hour < to_time
    union all
    select p.meter, p.hour, p.minutes from usage_pending p
    where p.license_id = license and p.hour > from_time - interval '1 hour' and p.hour < to_time
  ) u, json_array_elements(('[' || u.minutes || ']')::json) e
  where u.hour + make_interval(mins => (e->>0)::int) >= from_time
    and u.hour + make_interval(mins => (e->>0)::int) < to_time
  group by 1, 2
$$;
