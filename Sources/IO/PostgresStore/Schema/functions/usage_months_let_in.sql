-- Allows the default partitions to hold months again whose partitions have not been made. The
-- caller holds usage_combine_lock_key() exclusively, so nobody is making one. Raises
-- lock_not_available if readers leave no moment for it.
create function usage_months_let_in() returns void
language plpgsql set lock_timeout = '100ms' as $$
declare
  kept record;
begin
  for kept in
    select conrelid::regclass as place, conname from pg_constraint
    where conrelid in ('usage_hour_default'::regclass, 'usage_day_default'::regclass)
      and conname ~ '^usage_(hour|day)_default_without_[0-9]{6}$'
  loop
    for tries in reverse 20..1 loop
      begin
        execute format('alter table %s drop constraint %I', kept.place, kept.conname);
        exit;
      exception when lock_not_available then
        if tries = 1 then raise; end if;
        perform pg_sleep(0.05);
      end;
    end loop;
  end loop;
end $$;
