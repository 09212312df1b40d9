-- Moves what merges appended into the hours of meters, and drops hours that no question can ask for
-- any more. The caller holds usage_fold_lock_key().
create function usage_meter_hours_fold(most int) returns void language sql as $$
  with taken as (
    delete from usage_meter_hour_delta
    where ctid = any (array(select ctid from usage_meter_hour_delta limit most)) returning *
  )
  insert into usage_meter_hour as h (hour, meter, quantity, event_count)
  select hour, meter, sum(quantity), sum(event_count)::bigint from taken group by 1, 2 order by 1, 2
  on conflict (hour, meter) do update set quantity = h.quantity + excluded.quantity,
    event_count = h.event_count + excluded.event_count;
  delete from usage_meter_hour where hour < now() - interval '402 days'
$$;
