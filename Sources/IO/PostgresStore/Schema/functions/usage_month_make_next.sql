-- Makes the next partition that is missing; answers its name, null when none is. One a transaction,
-- so that no lock outlives its use.
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
