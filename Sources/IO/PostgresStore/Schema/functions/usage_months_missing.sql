-- The months for which a table has no partition: those of the months ahead, those that were missed
-- while nobody created any, those that a running import reaches, and those whose rows are in the
-- default partition.
create function usage_months_missing(parent text, months_ahead int) returns setof date
language plpgsql stable as $$
declare
  this_month date := date_trunc('month', now() at time zone 'UTC')::date;
  first_month date;
begin
  select least(this_month,
      greatest(min(to_date(right(c.relname, 6), 'YYYYMM'))
        filter (where c.relname ~ '_[0-9]{6}$'), (this_month - interval '13 months')::date),
      -- An import of the distant past stays in the default partition, because planning pays for
      -- each month.
      (select date_trunc('month', greatest(min(b.oldest_time), now() - interval '36 months')
        at time zone 'UTC')::date
        from import_batch b where b.status = 'running' having count(*) > 0))
    into first_month
  from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = parent::regclass;
  return query execute format($q$
    select m from (
      select g::date as m
      from generate_series($1::timestamp, $2::timestamp + make_interval(months => $3), '1 month') g
      union
      select date_trunc('month', %s)::date from only %I
    ) months where to_regclass(%L || to_char(m, 'YYYYMM')) is null order by m $q$,
    case parent when 'usage_hour' then 'hour at time zone ''UTC''' else 'day::timestamp' end,
    parent || '_default', parent || '_')
  using first_month, this_month, months_ahead;
end $$;
