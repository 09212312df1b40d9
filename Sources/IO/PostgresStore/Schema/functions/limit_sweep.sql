-- Computes again the states whose license, limit or usage was changed by hand, and judges them.
-- Returns how many.
create function limit_sweep(most int) returns int language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  licenses text[];
  meters text[];
  reached record;
begin
  if not exists (select from limit_change) then return 0; end if;
  perform pg_advisory_xact_lock(limit_lock_key());
  with chosen as (
    select c.license_id, c.meter from limit_change c order by 1, 2 limit most for update skip locked
  ), gone as (
    delete from limit_change c using chosen x where c.license_id = x.license_id and c.meter = x.meter
    returning c.license_id, c.meter
  ) select array_agg(g.license_id), array_agg(g.meter) into licenses, meters
  from (select * from gone order by 1, 2) g;
  if licenses is null then return 0; end if;
  delete from limit_state s using unnest(licenses, meters) u(license_id, meter)
  where s.license_id = u.license_id and s.meter = u.meter;
  perform limit_states_make(licenses, meters, array_fill((now() at time zone 'UTC')::date, array[cardinality(licenses)]),
    nextval('limit_version'));
  for reached in
    select s.license_id, s.meter, s.period_start
    from unnest(licenses, meters) u(license_id, meter) join limit_state s on s.license_id = u.license_id and s.meter = u.meter
    where s.used >= s.next_quantity order by 1, 2, 3
  loop
    perform limit_judge(reached.license_id, reached.meter, reached.period_start, '{"cause": "limit or license changed"}');
  end loop;
  perform pg_notify('limit_state', '');
  return cardinality(licenses);
end $$;
