-- Discards deliveries of disabled endpoints. A delivery may also have been created while its
-- endpoint was being disabled.
create function webhook_discard(most int) returns bigint language sql as $$
  with chosen as (
    select c.delivery_id from webhook_endpoint e, lateral (
      select d.delivery_id from webhook_delivery d
      where d.endpoint_id = e.endpoint_id and d.status = 'pending' limit most for update skip locked) c
    where e.status = 'disabled' limit most
  ), gone as (
    update webhook_delivery d set status = 'discarded', next_attempt_at = null, lease = null,
      finished_at = clock_timestamp()
    from chosen c where d.delivery_id = c.delivery_id returning 1
  ) select count(*) from gone
$$;
