-- The same for a license: its customer is who is told. Of a license that nobody registered, only the vendor hears.
create function alert_raise(
  type text, license_id text, occurred_at timestamptz, data jsonb, dedupe_key text, evidence jsonb default null
) returns bigint language sql as $$
  select alert_raise_for(type, license_id,
    (select l.customer_id from license l where l.license_id = alert_raise.license_id), occurred_at, data, dedupe_key,
    evidence)
$$;
