-- Does the next step towards missing partitions. It returns the name of the partition that it made.
-- If it only keeps a month out of the default partition, it returns the name of that one. The
-- result is null if nothing is left to do. Each call is a transaction, so that no lock is held
-- longer than needed. A month that is kept out comes first, so the next run finishes a run that was
-- cut off.
create function usage_month_make_next(months_ahead int) returns text language plpgsql as $$
declare
  missing record;
begin
  for missing in
    select split_part(conname, '_default_', 1) as parent, to_date(right(conname, 6), 'YYYYMM') as month
    from pg_constraint
    where conrelid in ('usage_hour_default'::regclass, 'usage_day_default'::regclass)
      and conname ~ '^usage_(hour|day)_default_without_[0-9]{6}$' order by conname
  loop
    if usage_month_make(missing.parent, missing.month) then
      return missing.parent || '_' || to_char(missing.month, 'YYYYMM');
    end if;
  end loop;
  for missing in
    select parent, month from unnest(array['usage_hour', 'usage_day']) parent,
      usage_months_missing(parent, months_ahead) month
    order by month < date_trunc('month', now() at time zone 'UTC')::date, month
  loop
    if usage_month_keep_out(missing.parent, missing.month) then
      return missing.parent || '_default';
    end if;
    if usage_month_make(missing.parent, missing.month) then
      return missing.parent || '_' || to_char(missing.month, 'YYYYMM');
    end if;
  end loop;
  return null;
end $$;
