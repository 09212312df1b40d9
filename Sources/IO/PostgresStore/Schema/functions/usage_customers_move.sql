-- Moves the usage of licenses from the days of one customer to those of another.
create function usage_customers_move(licenses text[], sources text[], targets text[]) returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  if licenses is null then return; end if;
  perform pg_advisory_xact_lock_shared(usage_fold_lock_key());
  perform usage_customer_days_add(array_agg(c.customer_id), array_agg(f.meter), array_agg(f.day),
    array_agg(c.sign * f.quantity), array_agg(c.sign * f.event_count))
  from usage_total_state s, usage_folded(licenses) f
  join unnest(licenses, sources, targets) m(license_id, source, target)
    on m.license_id = f.license_id,
    lateral (values (m.source, -1), (m.target, 1)) c(customer_id, sign)
  where s.is_complete or f.license_id collate "C" <= s.made_through;
end $$;
