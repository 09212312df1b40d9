-- The months that are kept out of a default partition while their own partition is made. A row of an hour
-- or day in them would be refused there, so it stays in usage_appended. Whoever writes hours and days holds
-- usage_combine_lock_key() before this is asked, and then the answer stays true until the transaction ends.
create function usage_months_kept_out() returns tstzrange[] language sql stable as $$
  select coalesce(array_agg(tstzrange(m.month at time zone 'UTC',
    (m.month + interval '1 month') at time zone 'UTC')), '{}')
  from pg_constraint k, lateral (
    select to_date(right(k.conname, 6), 'YYYYMM')::timestamp as month) m
  where k.conrelid in ('usage_hour_default'::regclass, 'usage_day_default'::regclass)
    and k.conname ~ '^usage_(hour|day)_default_without_[0-9]{6}$'
$$;
