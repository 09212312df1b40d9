-- Clears minutes that were last written 7 days ago and drops hours that were last written 400 days
-- ago, up to max_rows of them. A day's hours are looked at once a day while events may still come
-- for them, and once a week later. The index on hour leads to them. Returns at least 1 if it
-- stopped after two seconds with more to look at, and 0 if nothing is due.
create or replace function usage_retain(max_rows int) returns bigint
language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  due record;
  touched bigint := 0;
  began timestamptz := clock_timestamp();
begin
  insert into usage_hour_look
  select d::date, now()
  from (
    select min(to_date(right(c.relname, 6), 'YYYYMM')) as first_month,
      max(to_date(right(c.relname, 6), 'YYYYMM')) as last_month
    from pg_inherits p join pg_class c on c.oid = p.inhrelid
    where p.inhparent = 'usage_hour'::regclass and c.relname ~ '^usage_hour_[0-9]{6}$'
  ) months, generate_series(first_month::timestamp, last_month + interval '1 month - 1 day', '1 day') d
  union all select '-infinity', now()
  on conflict do nothing;
  for due in
    select day, to_regclass('usage_hour_' || to_char(day, 'YYYYMM')) as place
    from usage_hour_look where next_look <= now() and isfinite(day) order by next_look, day
  loop
    -- Without the index, looking at a day would walk over its month.
    if due.place is null or pg_relation_size(due.place) > 16000000 and not exists (
      select from pg_index i join pg_class x on x.oid = i.indexrelid
      where x.relname = 'usage_hour_' || to_char(due.day, 'YYYYMM') || '_by_hour' and i.indisvalid)
    then continue; end if;
    touched := touched + usage_retain_in(due.place::text, due.day::timestamp at time zone 'UTC',
      (due.day + 1)::timestamp at time zone 'UTC', max_rows - touched::int);
    if touched >= max_rows then return touched; end if;
    update usage_hour_look set next_look = now() + case
      when due.day > (now() at time zone 'UTC')::date - 45 then interval '1 day'
      else interval '7 days' end
    where day = due.day;
    if clock_timestamp() > began + interval '2 seconds' then return greatest(touched, 1); end if;
  end loop;
  if exists (select from usage_hour_look where next_look <= now() and day = '-infinity') then
    touched := touched + usage_retain_in('usage_hour_default', '-infinity', 'infinity',
      max_rows - touched::int);
    if touched < max_rows then
      update usage_hour_look set next_look = now() + interval '1 day' where day = '-infinity';
    end if;
  end if;
  return touched;
end $$;
