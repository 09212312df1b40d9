-- Raises alerts about totals. Each is an object with occurred_at (milliseconds), dedupe_key and
-- data. Only the vendor gets them. The data says which customer they are about.
create function usage_anomaly_raise(findings jsonb) returns void language plpgsql as $$
declare
  f jsonb;
begin
  for f in select e from jsonb_array_elements(findings) e order by e->>'dedupe_key' loop
    perform alert_raise_for('usage.anomaly', null, null,
      to_timestamp((f->>'occurred_at')::float8 / 1000), f->'data', f->>'dedupe_key');
  end loop;
end $$;
