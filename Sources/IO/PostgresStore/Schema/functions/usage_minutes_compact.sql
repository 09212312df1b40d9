create function usage_minutes_compact(parts text) returns text language sql immutable parallel safe as $$
  select coalesce(string_agg('[' || minute || ',' || quantity || ',' || events || ']', ',' order by minute), '')
  from (
    select (e->>0)::int as minute, sum((e->>1)::bigint) as quantity, sum((e->>2)::bigint) as events
    from json_array_elements(('[' || parts || ']')::json) e group by 1
  ) m
$$;
