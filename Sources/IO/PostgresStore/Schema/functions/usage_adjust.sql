-- Records an adjustment, or says why not. The results are `recorded` and `repeated` with the
-- adjustment's id, `idempotency_mismatch`, `not_a_period_start` with the first day of the period
-- that contains the day, `not_begun`, `before_first_period` with the first day of the license's first
-- period, and `unknown_license`. The adjustment goes on the invoice of its own period while that is
-- open.
create or replace function usage_adjust(
  license text, of_meter text, applies_to date, of_quantity bigint, events bigint, because text,
  by_whom text, key text
) returns table (outcome text, detail text)
language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  period record;
  first_start date;
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
  -- Nothing can be owed for a time before a license. Usage that came before it may be corrected.
  select p.first_day into first_start
  from (
    select (least(l.issued_at, l.created_at) at time zone 'UTC')::date as day from license l
    where l.license_id = usage_adjust.license
    union all
    select (min(d.bucket_start) at time zone 'UTC')::date from usage_by_day d
    where d.license_id = usage_adjust.license
      and not exists (select from license l where l.license_id = usage_adjust.license)
  ) f, period_of(license, f.day) p where f.day is not null;
  if applies_to < first_start
    and not exists (
      select from usage_by_day d where d.license_id = usage_adjust.license
        and d.bucket_start >= applies_to::timestamp at time zone 'UTC'
        and d.bucket_start < period.end_day::timestamp at time zone 'UTC')
    and not exists (
      select from usage_period_closed x where x.license_id = usage_adjust.license
        and x.period_start <= applies_to and applies_to < x.period_end)
  then
    return query select 'before_first_period', first_start::text; return;
  end if;
  return query select * from usage_adjustment_add(license, of_meter, applies_to, period.end_day,
    of_quantity, events, because, by_whom, key, null);
end $$;
