create view billing_license as
select l.customer_id, l.license_id, l.plan, l.status, l.features, l.domains, l.seats, l.trial,
  l.overage_policy, l.alert_thresholds, l.billing_anchor_day, l.issued_at, l.expires_at,
  l.created_at, l.updated_at,
  (select coalesce(jsonb_object_agg(m.meter, m.quantity), '{}') from license_limit m
    where m.license_id = l.license_id) as limits
from license l;
