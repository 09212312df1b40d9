-- Aggregators older than schema 12 call this once an hour.
create or replace function create_month_partitions(months_ahead int) returns void
language plpgsql as $$
begin
  perform usage_month_make_next(months_ahead);
exception when lock_not_available then
  raise notice 'a partition could not be attached, and is tried again later';
end $$;
