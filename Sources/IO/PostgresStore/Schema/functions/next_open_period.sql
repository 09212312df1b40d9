-- The first day of the period on whose invoice late usage goes: the first period after its own that
-- is not closed.
create function next_open_period(license text, of_meter text, behind date) returns date
language plpgsql stable parallel safe as $$
declare
  found_end date;
  start date := greatest(behind,
    (select closed_through from license_closing where license_id = license collate "C"));
begin
  loop
    select period_end into found_end from usage_period_closed
    where license_id = license collate "C" and meter = of_meter collate "C"
      and period_start = start;
    if not found then return start; end if;
    start := found_end;
  end loop;
end $$;
