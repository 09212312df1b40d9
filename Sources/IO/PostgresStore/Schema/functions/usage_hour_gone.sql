-- Whether retention has dropped the row of an hour. It is a function, so that a view which asks it
-- is not planned for every pair of months.
create function usage_hour_gone(license text, of_meter text, of_hour timestamptz) returns boolean
language plpgsql stable parallel safe as $$
begin
  return exists (
    select from usage_day d
    where d.license_id = license and d.meter = of_meter
      and d.day = (of_hour at time zone 'UTC')::date
      and (d.hours_gone >> extract(hour from of_hour at time zone 'UTC')::int) & 1 = 1);
end $$;
