create function usage_adjustment_add(
  license text, of_meter text, applies_to date, ending date, of_quantity bigint, events bigint,
  because text, by_whom text, key text, taking_back text
) returns table (outcome text, detail text)
language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  known usage_adjustment_entry;
  made text;
  is_closed boolean := exists (
      select from license_closing c where c.license_id = license and applies_to < c.closed_through)
    or exists (
      select from usage_period_closed x where x.license_id = license and x.meter = of_meter
        and x.period_start = applies_to);
begin
  insert into usage_adjustment_entry (adjustment_id, license_id, meter, applies_to_period_start,
    invoiced_period_start, kind, quantity, event_count, reason, recorded_by, idempotency_key, reverses)
  values ('adj_' || replace(gen_random_uuid()::text, '-', ''), license, of_meter, applies_to,
    case when is_closed then next_open_period(license, of_meter, ending) else applies_to end,
    'manual', of_quantity, events, because, by_whom, key, taking_back)
  on conflict do nothing returning adjustment_id into made;
  if made is not null then return query select 'recorded', made; return; end if;
  select * into known from usage_adjustment_entry e
  where e.recorded_by = by_whom and e.idempotency_key = key;
  if not found then return query select 'already_reversed', taking_back; return; end if;
  return query select case when known.license_id = license collate "C"
      and known.meter = of_meter collate "C" and known.applies_to_period_start = applies_to
      and known.quantity = of_quantity and known.event_count = events and known.reason = because
      and known.reverses is not distinct from taking_back
    then 'repeated' else 'idempotency_mismatch' end, known.adjustment_id;
end $$;
