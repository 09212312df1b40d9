-- Gives back claims that were never tried. Each is due again after its time.
create function webhook_postpone(ids bigint[], leases bigint[], waits_ms bigint[]) returns void language sql as $$
  update webhook_delivery d
  set next_attempt_at = clock_timestamp() + make_interval(secs => r.wait_ms / 1000.0), lease = null
  from unnest(ids, leases, waits_ms) r(delivery_id, lease, wait_ms)
  where d.delivery_id = r.delivery_id and d.lease = r.lease
$$;
