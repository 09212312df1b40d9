-- As usage_dimensions_capped was before schema 37. Statements of periods that were closed before
-- then were signed with these values.
create function usage_dimensions_capped_before(parts text, bound text[])
returns table (dimension text, value text, quantity bigint, event_count bigint)
language sql immutable parallel safe as $$
  with parsed as (
    select e->>0 as dimension, e->>1 as value, (e->>2)::bigint as quantity, (e->>3)::bigint as events, place
    from json_array_elements(('[' || parts || ']')::json) with ordinality as x(e, place)
  ), summed as (
    select dimension, value, sum(quantity) as quantity, sum(events) as events, min(place) as place
    from parsed group by 1, 2
  ), ranked as (
    select *, row_number() over (
      partition by dimension
      order by value = '(other)' desc, dimension = 'domain' and value = any (bound) desc, place) as rank
    from summed
  )
  select dimension, case when rank > 200 then '(other)' else value end,
    sum(quantity)::bigint, sum(events)::bigint
  from ranked group by 1, 2
$$;
