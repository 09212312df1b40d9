-- The values of a license's day, at most 200 for each dimension; the rest becomes `(other)`. Bound
-- domains come first and are never put together: neither the license's domains, in any spelling,
-- nor up to 200 domains that its wildcards cover. What stands before `(other)` was named when the
-- text was compacted, and stays named.
create or replace function usage_dimensions_capped(parts text, bound text[])
returns table (dimension text, value text, quantity bigint, event_count bigint)
language sql immutable parallel safe as $$
  with summed as materialized (
    select e->>0 as dimension, e->>1 as value, sum((e->>2)::bigint) as quantity,
      sum((e->>3)::bigint) as events, min(place) as place
    from json_array_elements(('[' || parts || ']')::json) with ordinality as x(e, place) group by 1, 2
  ), size as materialized (
    select count(*) as names from summed
  ), wildcard as materialized (
    select substr(b, 2) as suffix from unnest(bound) b where b like '*.%'
  ), spelled as materialized (
    -- Domains are compared without case, port and trailing dot.
    select *, rtrim(split_part(lower(value collate "C"), ':', 1), '.') as name from summed
    where (select names from size) > 200
  ), told as materialized (
    select dimension, value, quantity, events, place, value = '(other)' as is_other,
      -- 2: one of the license's domains, 1: covered by a wildcard.
      case when dimension <> 'domain' then 0 when name = any (bound) then 2
        when exists (
          select from wildcard w where length(name) > length(w.suffix)
            and right(name, length(w.suffix)) = w.suffix) then 1
        else 0 end as binding,
      coalesce(place < min(place) filter (where value = '(other)') over (partition by dimension),
        false) as is_stored
    from spelled
  ), covered as (
    select value, row_number() over (order by is_stored desc, place) as rank from told
    where binding = 1
  ), ranked as (
    select *, row_number() over (partition by dimension, is_other
      order by is_stored desc, binding > 0 desc, place) as rank
    from told
  )
  select dimension, value, quantity::bigint, events::bigint from summed
  where (select names from size) <= 200
  union all
  select dimension, case when rank <= 200 or (is_stored and rank <= 400) or binding = 2
      or (binding = 1 and value in (select c.value from covered c where c.rank <= 200))
    then value else '(other)' end,
    sum(quantity)::bigint, sum(events)::bigint
  from ranked group by 1, 2 having sum(quantity) <> 0 or sum(events) <> 0
$$;
