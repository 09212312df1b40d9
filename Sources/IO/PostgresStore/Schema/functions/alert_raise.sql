-- Raises an alert about a license. Its customer is told. If the license is not registered, only the
-- vendor is told.
create function alert_raise(
  type text, license_id text, occurred_at timestamptz, data jsonb, dedupe_key text, evidence jsonb default null
) returns bigint language sql as $$
  select alert_raise_for(type, license_id,
    (select l.customer_id from license l where l.license_id = alert_raise.license_id), occurred_at, data, dedupe_key,
    evidence)
$$;
