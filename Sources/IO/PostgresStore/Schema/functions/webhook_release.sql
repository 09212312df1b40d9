-- Gives back claims that were never tried.
create function webhook_release(ids bigint[], leases bigint[]) returns void language sql as $$
  update webhook_delivery d set next_attempt_at = clock_timestamp(), lease = null
  from unnest(ids, leases) r(delivery_id, lease)
  where d.delivery_id = r.delivery_id and d.lease = r.lease
$$;
