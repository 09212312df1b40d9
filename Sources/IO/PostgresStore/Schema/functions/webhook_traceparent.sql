-- The trace that led to a delivery's alert; null where it has none. A function of its own, because the dispatcher may read no alerts.
-- It is volatile, so that it sees what webhook_claim has seen.
create function webhook_traceparent(delivery bigint) returns text language sql as $$
  select jsonb_path_query_first(a.evidence, '$[*].traceparent') #>> '{}'
  from webhook_delivery d join alert a using (alert_id) where d.delivery_id = delivery
$$;
