-- The capped values as text. `(other)` comes last, so that whatever stands before it stays named.
-- If a dimension is full, `(other)` is there even if it is 0.
create or replace function usage_dimensions_compact(parts text, bound text[]) returns text
language sql immutable parallel safe as $$
  with capped as materialized (
    select * from usage_dimensions_capped(parts, bound)
  )
  select coalesce(string_agg(json_build_array(dimension, value, quantity, event_count)::text, ','
    order by value = '(other)', quantity desc, value), '')
  from (
    select dimension, value, quantity, event_count from capped
    union all
    select dimension, '(other)', 0, 0 from capped where (select count(*) from capped) >= 200
    group by 1 having count(*) >= 200 and not bool_or(value = '(other)')
  ) c
$$;
