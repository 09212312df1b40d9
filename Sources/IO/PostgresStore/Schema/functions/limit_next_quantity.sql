-- The smallest quantity above `used` that reaches a threshold. If the list contains a threshold of
-- 100 or more, every further 100 is reported as well. A limit of 0 has no thresholds below it: the
-- first call exceeds it.
create function limit_next_quantity(limit_quantity bigint, thresholds int[], used bigint) returns bigint
language sql immutable parallel safe as $$
  select min(q)::bigint from (
    select greatest(ceil(limit_quantity::numeric * t / 100), 1) as q from unnest(thresholds) t
    where t > 0 and (limit_quantity > 0 or t >= 100)
    union all
    select limit_quantity::numeric * (greatest(floor(used::numeric / nullif(limit_quantity, 0)), 1) + 1)
    where limit_quantity > 0 and 100 <= any (thresholds)
  ) candidates where q > used and q < 9000000000000000000
$$;
