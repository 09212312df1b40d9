-- Records the counter-entry of an adjustment, on the invoice of the next open period. The results
-- are those of usage_adjust and `unknown_adjustment`, `already_reversed`, and `still_open` for a
-- late adjustment that still grows.
create function usage_adjustment_reverse(which text, because text, by_whom text, key text)
returns table (outcome text, detail text)
language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  entry usage_adjustment_entry;
begin
  perform pg_advisory_xact_lock_shared(close_lock_key());
  select * into entry from usage_adjustment_entry e where e.adjustment_id = which;
  if not found then
    return query select case when exists (
      select from usage_adjustment a where a.adjustment_id = which)
      then 'still_open' else 'unknown_adjustment' end, which;
    return;
  end if;
  return query select a.* from period_of(entry.license_id, entry.applies_to_period_start) p,
    usage_adjustment_add(entry.license_id, entry.meter, entry.applies_to_period_start, p.end_day,
      -entry.quantity, -entry.event_count, because, by_whom, key, which) a;
end $$;
