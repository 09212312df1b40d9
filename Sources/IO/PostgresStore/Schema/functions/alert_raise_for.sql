-- Creates an alert, and a delivery for each active endpoint of the customer and of the vendor that
-- receives its type, in the caller's transaction. The result is null if the key exists, because the
-- first one has told everybody.
create function alert_raise_for(
  type text, license_id text, customer_id text, occurred_at timestamptz, data jsonb, dedupe_key text,
  evidence jsonb default null
) returns bigint language plpgsql as $$
#variable_conflict use_variable
declare
  raised bigint;
  made int;
begin
  -- An index cannot hold a key of any length, and customers choose the ids that keys are made of.
  if octet_length(dedupe_key) > 500 then
    dedupe_key := type || '/sha256/' || encode(sha256(convert_to(dedupe_key, 'UTF8')), 'hex');
  end if;
  insert into alert as a (type, license_id, customer_id, occurred_at, data, dedupe_key, evidence)
  values (type, license_id, customer_id, occurred_at,
    case when license_id is null then data else data || jsonb_build_object('license_id', license_id) end,
    dedupe_key, evidence)
  on conflict do nothing returning a.alert_id into raised;
  if raised is null then return null; end if;
  insert into webhook_delivery (alert_id, endpoint_id, webhook_id)
  select raised, e.endpoint_id, webhook_id_of(dedupe_key, e.endpoint_id)
  from webhook_endpoint e
  where (e.customer_id = alert_raise_for.customer_id or e.customer_id is null) and e.status = 'active'
    and (e.events = '{}' or e.events && array['*', type])
  -- If an endpoint is just being deleted, this waits for that and leaves it out. Otherwise its
  -- foreign key would fail the caller's transaction.
  order by e.endpoint_id for key share of e;
  get diagnostics made = row_count;
  -- The dispatcher hears this at COMMIT, once per transaction. There is no payload, so that a
  -- thousand alerts are one wake-up.
  if made > 0 then perform pg_notify('webhook_delivery', ''); end if;
  return raised;
end $$;
