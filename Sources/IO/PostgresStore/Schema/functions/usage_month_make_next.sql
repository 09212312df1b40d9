-- Creates the next missing partition and returns its name; null if none is missing. Each call is a
-- transaction, so that no lock is held longer than needed.
create function usage_month_make_next(months_ahead int) returns text language plpgsql as $$
declare
  missing record;
begin
  for missing in
    select parent, month from unnest(array['usage_hour', 'usage_day']) parent,
      usage_months_missing(parent, months_ahead) month
    order by month < date_trunc('month', now() at time zone 'UTC')::date, month
  loop
    if usage_month_make(missing.parent, missing.month) then
      return missing.parent || '_' || to_char(missing.month, 'YYYYMM');
    end if;
  end loop;
  return null;
end $$;
