-- What people who use SQL may read: see deploy/billing-reader.sql.

update schema_version set version = 18;

-- For people who use SQL: what deploy/billing-reader.sql lets them read. Columns are a contract.
create view billing_customer as
select customer_id, name, stripe_customer_id, created_at from customer;

create view billing_license as
select l.customer_id, l.license_id, l.plan, l.status, l.features, l.domains, l.seats, l.trial,
  l.overage_policy, l.alert_thresholds, l.billing_anchor_day, l.issued_at, l.expires_at,
  l.created_at, l.updated_at,
  (select coalesce(jsonb_object_agg(m.meter, m.quantity), '{}') from license_limit m
    where m.license_id = l.license_id) as limits
from license l;

-- The sums are made for each license by itself, so that a condition on the customer reads its licenses'
-- rows and no others.
create view billing_usage_by_day as
select l.customer_id, l.license_id, u.meter, u.bucket_start, u.quantity, u.event_count
from license l, lateral (
  select d.license_id, d.meter, d.day::timestamp at time zone 'UTC' as bucket_start,
    sum(d.quantity)::bigint as quantity, sum(d.event_count)::bigint as event_count
  from (
    select license_id, meter, day, quantity, event_count from usage_day
    where license_id = l.license_id
    union all
    select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count
    from usage_pending where license_id = l.license_id
  ) d group by d.license_id, d.meter, d.day) u;

-- The sums are made for each license by itself, as in billing_usage_by_day.
create view billing_usage_by_hour as
select l.customer_id, l.license_id, u.meter, u.bucket_start, u.quantity, u.event_count
from license l, lateral (
  select h.license_id, h.meter, h.hour as bucket_start,
    sum(h.quantity)::bigint as quantity, sum(h.event_count)::bigint as event_count
  from (
    select license_id, meter, hour, quantity, event_count from usage_hour
    where license_id = l.license_id
    union all
    select license_id, meter, hour, quantity, event_count
    from usage_pending where license_id = l.license_id
  ) h group by h.license_id, h.meter, h.hour) u;

-- status: current (now is in it), past (it ended and is not closed), closed, future.
create view billing_usage_by_period as
select l.customer_id, l.license_id, p.meter, p.period_start, p.period_end,
  case when p.closed_at is not null then 'closed' when p.period_start > now() then 'future'
    when p.period_end > now() then 'current' else 'past' end as status,
  p.quantity, p.event_count, p.included, p.overage,
  (select m.quantity from license_limit m where m.license_id = l.license_id and m.meter = p.meter)
    as limit_quantity,
  p.closed_at, p.period_id
from license l, lateral (
  -- OFFSET 0 keeps it apart: the sums are made for each license by itself.
  select * from usage_by_period b where b.license_id = l.license_id offset 0) p;

-- Usage of licenses that nobody registered: it is counted, and nobody is billed for it.
create view billing_usage_unregistered as
select u.license_id, u.meter, u.bucket_start, u.quantity, u.event_count
from usage_by_day u where not exists (select from license l where l.license_id = u.license_id);
