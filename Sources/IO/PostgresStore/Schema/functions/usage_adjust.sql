-- Records an adjustment, or says why not. The results are `recorded` and `repeated` with the
-- adjustment's id, `idempotency_mismatch`, `not_a_period_start` with the first day of the period
-- that contains the day, `not_begun`, and `unknown_license`. The adjustment goes on the invoice of
-- its own period while that is open.
create function usage_adjust(
  license text, of_meter text, applies_to date, of_quantity bigint, events bigint, because text,
  by_whom text, key text
) returns table (outcome text, detail text)
language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  period record;
begin
  -- This waits for a running close. Either the close has seen the adjustment, or the adjustment
  -- sees the close.
  perform pg_advisory_xact_lock_shared(close_lock_key());
  select * into period from period_of(license, applies_to);
  if period.first_day <> applies_to then
    return query select 'not_a_period_start', period.first_day::text; return;
  end if;
  if applies_to > (now() at time zone 'UTC')::date then
    return query select 'not_begun', applies_to::text; return;
  end if;
  if not exists (select from license l where l.license_id = usage_adjust.license)
    and not exists (select from usage_by_day d where d.license_id = usage_adjust.license)
  then return query select 'unknown_license', null; return; end if;
  return query select * from usage_adjustment_add(license, of_meter, applies_to, period.end_day,
    of_quantity, events, because, by_whom, key, null);
end $$;
