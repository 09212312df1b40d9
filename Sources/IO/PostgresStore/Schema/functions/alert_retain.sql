-- Removes alerts that are older than 400 days, with their deliveries and attempts, unless a
-- delivery is still pending. Returns how many.
create function alert_retain(most int) returns bigint
language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  removed bigint;
begin
  delete from alert where alert_id = any (array(
    select a.alert_id from alert a
    where a.occurred_at < now() - interval '400 days'
      and a.created_at < now() - interval '400 days'
      and not exists (
        select from webhook_delivery d where d.alert_id = a.alert_id and d.status = 'pending')
    order by a.occurred_at limit most for update skip locked));
  get diagnostics removed = row_count;
  return removed;
end $$;
