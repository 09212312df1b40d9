-- status: current (it contains now), past (it has ended and is not closed), closed, future.
-- A closed period belongs to the customer who had the license at the close, and other periods belong
-- to the present customer, as in /v1/periods.
create or replace view billing_usage_by_period as
select u.customer_id, u.license_id, u.meter, u.period_start, u.period_end, u.status, u.quantity,
  u.event_count, u.included, u.overage,
  (select m.quantity from license_limit m where m.license_id = u.license_id and m.meter = u.meter)
    as limit_quantity,
  u.closed_at, u.period_id
from (
  select x.customer_id, x.license_id, x.meter, x.period_start::timestamp at time zone 'UTC' as period_start,
    x.period_end::timestamp at time zone 'UTC' as period_end, 'closed' as status, x.quantity,
    x.event_count, x.included, x.overage, x.closed_at,
    x.license_id || ':' || x.meter || ':' || to_char(x.period_start, 'YYYY-MM-DD') as period_id
  from usage_period_closed x
  -- The others are in billing_usage_unregistered.
  where x.customer_id is not null
    or exists (select from license l where l.license_id = x.license_id)
  union all
  select l.customer_id, l.license_id, p.meter, p.period_start, p.period_end,
    case when p.period_start > now() then 'future' when p.period_end > now() then 'current'
      else 'past' end,
    p.quantity, p.event_count, p.included, p.overage, p.closed_at, p.period_id
  from license l, lateral (
    -- OFFSET 0 keeps this apart, so that the sums are computed for each license separately.
    select * from usage_by_period b where b.license_id = l.license_id and b.closed_at is null
    offset 0) p
) u;
