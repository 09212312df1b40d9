-- Keeps a month's new rows out of a large default partition, so that usage_month_make can prove
-- outside of its exclusive lock that no row of the month is left there. Returns whether it did. The
-- month's partition is then made in a later transaction. It does nothing if the default partition
-- is small or larger than 4 GB, if the month is kept out already, or if more rows of it wait than
-- one statement moves in time.
create function usage_month_keep_out(parent text, month date) returns boolean
language plpgsql set lock_timeout = '100ms' as $$
declare
  rest text := parent || '_default';
  without text := rest || '_without_' || to_char(month, 'YYYYMM');
  key text := case when parent = 'usage_hour' then 'hour' else 'day' end;
  lower_bound text := case when parent = 'usage_hour'
    then (month::timestamp at time zone 'UTC')::text else month::text end;
  upper_bound text := case when parent = 'usage_hour'
    then ((month + interval '1 month') at time zone 'UTC')::text
    else (month + interval '1 month')::date::text end;
  waiting bigint;
begin
  if pg_relation_size(rest) not between 16000001 and 4000000000 or exists (
    select from pg_constraint where conrelid = rest::regclass and conname = without)
  then return false; end if;
  execute format('select count(*) from (select from only %I where %I >= %L and %I < %L limit 1000001) w',
    rest, key, lower_bound, key, upper_bound) into waiting;
  if waiting > 1000000 then return false; end if;
  -- With this lock, all writers of hours and days have ended, and the next one sees the constraint.
  -- Only a close waits behind this, so it may take longer.
  perform set_config('lock_timeout', '5s', true);
  perform pg_advisory_xact_lock(usage_combine_lock_key());
  perform set_config('lock_timeout', '100ms', true);
  execute format('alter table %I add constraint %I check (%I < %L or %I >= %L) not valid',
    rest, without, key, lower_bound, key, upper_bound);
  return true;
end $$;
