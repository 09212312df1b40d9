-- Closes one meter of one license in the period that begins on a day. Returns `closed`,
-- `already_closed`, `not_ended`, or `no_period` if there is nothing to close.
create function usage_close_one(of_close bigint, license text, of_meter text, start date)
returns text language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
declare
  ending date;
begin
  perform usage_close_lock();
  select end_day into ending from period_of(license, start) where first_day = start;
  if ending is null then return 'no_period'; end if;
  if exists (
    select from usage_period_closed x where x.license_id = license and x.meter = of_meter
      and x.period_start = start)
  then return 'already_closed'; end if;
  if not exists (
    select from usage_by_day d where d.license_id = license and d.meter = of_meter
      and d.bucket_start >= start::timestamp at time zone 'UTC'
      and d.bucket_start < ending::timestamp at time zone 'UTC')
    and not exists (
      select from usage_adjustment a where a.license_id = license and a.meter = of_meter
        and a.invoiced_period_start = start::timestamp at time zone 'UTC')
  then return 'no_period'; end if;
  if exists (
    select from license_closing c where c.license_id = license and start < c.closed_through)
  then return 'already_closed'; end if;
  if ending > (now() at time zone 'UTC')::date then return 'not_ended'; end if;
  insert into closing (license_id, meter, customer_id, closed_from, boundary)
  select license, of_meter, (select l.customer_id from license l where l.license_id = license),
    start, ending;
  perform usage_close_chosen(of_close);
  return 'closed';
end $$;
