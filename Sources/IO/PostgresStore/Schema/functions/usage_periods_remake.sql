-- Makes the totals of some licenses' periods from their days, by the anchors as they are now.
create function usage_periods_remake(licenses text[]) returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  if licenses is null then return; end if;
  -- Waits for a fold that read the anchors before the change, and lets none begin until it commits.
  perform pg_advisory_xact_lock_shared(usage_fold_lock_key());
  -- Two changes of one license would not see each other's totals, and both would add them.
  perform from license l where l.license_id = any (licenses) order by l.license_id for no key update;
  delete from usage_license_period p using usage_total_state s
  where p.license_id = any (licenses) and (s.is_complete or p.license_id <= s.made_through);
  perform usage_periods_add(array_agg(f.license_id), array_agg(f.meter), array_agg(f.day),
    array_agg(f.quantity::bigint), array_agg(f.event_count))
  from usage_folded(licenses) f, usage_total_state s
  where s.is_complete or f.license_id collate "C" <= s.made_through;
end $$;
