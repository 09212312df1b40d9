-- Returns true if the endpoint was active. Its pending deliveries are discarded afterwards, in
-- steps.
create function webhook_endpoint_disable(endpoint text, reason text, with_alert boolean) returns boolean
language plpgsql as $$
declare
  found_row webhook_endpoint;
  since timestamptz;
begin
  select failing_since into since from webhook_endpoint where endpoint_id = endpoint for no key update;
  update webhook_endpoint set status = 'disabled', disabled_reason = reason, disabled_at = clock_timestamp(),
    updated_at = now(), consecutive_failures = 0, failing_since = null, open_until = null
  where endpoint_id = endpoint and status = 'active' returning * into found_row;
  if not found then return false; end if;
  if with_alert then
    perform alert_raise_for('webhook.endpoint_disabled', null, found_row.customer_id, found_row.disabled_at,
      jsonb_strip_nulls(jsonb_build_object('endpoint_id', endpoint, 'url', found_row.url, 'reason', reason,
        'customer_id', found_row.customer_id,
        'failing_since', to_char(since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))),
      'webhook.endpoint_disabled/' || endpoint || '/' || extract(epoch from found_row.disabled_at)::text);
  end if;
  return true;
end $$;
