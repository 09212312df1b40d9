-- The trace that led to a delivery's alert; null if there is none. It is a separate function,
-- because the dispatcher may not read alerts. It is volatile, so that it sees what webhook_claim
-- has seen.
create function webhook_traceparent(delivery bigint) returns text language sql as $$
  select jsonb_path_query_first(a.evidence, '$[*].traceparent') #>> '{}'
  from webhook_delivery d join alert a using (alert_id) where d.delivery_id = delivery
$$;
