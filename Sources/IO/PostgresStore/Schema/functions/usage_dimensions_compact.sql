create function usage_dimensions_compact(parts text, bound text[]) returns text
language sql immutable parallel safe as $$
  -- Values are sorted by size, so that their ranking is stable between compactions.
  select coalesce(string_agg(json_build_array(dimension, value, quantity, event_count)::text, ','
    order by quantity desc, value), '')
  from usage_dimensions_capped(parts, bound)
$$;
