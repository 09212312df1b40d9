-- Computes again the states whose license, limit or usage was changed by hand, and judges them.
-- Returns how many.
create function limit_sweep(most int) returns int language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  licenses text[];
  meters text[];
  reached record;
  today date := (now() at time zone 'UTC')::date;
  new_version bigint := nextval('limit_version');
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
  -- A period that has ended keeps its limit and its thresholds: what is sold from today on is not what
  -- was sold then.
  delete from limit_state s using unnest(licenses, meters) u(license_id, meter)
  where s.license_id = u.license_id and s.meter = u.meter and (s.period_end > today
    or not exists (
      select from license_limit l where l.license_id = s.license_id and l.meter = s.meter)
    or not exists (
      select from period_of(s.license_id, s.period_start) p
      where p.first_day = s.period_start and p.end_day = s.period_end));
  update limit_state s set version = new_version,
    used = limit_used(s.license_id, s.meter, s.period_start, s.period_end)
  from unnest(licenses, meters) u(license_id, meter)
  where s.license_id = u.license_id and s.meter = u.meter;
  perform limit_states_make(licenses, meters, array_fill(today, array[cardinality(licenses)]), new_version);
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
