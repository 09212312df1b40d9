-- A late adjustment grows until the period on whose invoice it goes is closed. Then it becomes an
-- entry.
create view usage_adjustment as
select adjustment_id, license_id, meter,
  applies_to_period_start::timestamp at time zone 'UTC' as applies_to_period_start,
  invoiced_period_start::timestamp at time zone 'UTC' as invoiced_period_start,
  kind, quantity, event_count, reason, recorded_by, idempotency_key, recorded_at, reverses
from usage_adjustment_entry
union all
select concat_ws(':', 'late', license_id, meter, period_start, invoiced), license_id, meter,
  period_start::timestamp at time zone 'UTC', invoiced::timestamp at time zone 'UTC',
  'late', quantity, event_count, 'counted after the period was closed', 'usage-aggregator', null,
  since, null
from (
  select license_id, meter, period_start, next_open_period(license_id, meter, period_end) as invoiced,
    sum(quantity)::bigint as quantity, sum(event_count)::bigint as event_count,
    coalesce(min(since), now()) as since
  from (
    select license_id, meter, period_start, period_end, quantity - recorded_quantity as quantity,
      event_count - recorded_event_count as event_count, since
    from usage_late
    where quantity <> recorded_quantity or event_count <> recorded_event_count
    union all
    select license_id, meter, period_start, period_end, quantity, event_count, null
    from usage_late_pending
  ) u group by license_id, meter, period_start, period_end
) l;
