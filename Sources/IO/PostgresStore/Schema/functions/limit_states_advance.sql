-- Adds what `merging` holds to the states of its licenses, and judges those that reach a threshold.
-- It runs in the merge's transaction after its day rows, in the order of keys, so that merges never
-- deadlock. States are made for periods that ended up to 45 days ago. Events of any age are added
-- to a state that exists, so `used` is the sum of its period's days for as long as it exists.
create or replace function limit_states_advance() returns void language plpgsql as $$
declare
  due record;
begin
  if not exists (select from license_limit) then return; end if;
  create temp table if not exists limit_touched (
    license_id text collate "C" not null, meter text collate "C" not null, day date not null, quantity bigint not null,
    is_counted boolean not null default false) on commit delete rows;
  insert into limit_touched (license_id, meter, day, quantity)
  select license_id, meter, (hour at time zone 'UTC')::date, sum(m.quantity)::bigint
  from merging m join license_limit l using (license_id, meter) group by 1, 2, 3;
  if not found then return; end if;

  with missing as (
    select array_agg(license_id) as licenses, array_agg(meter) as meters, array_agg(day) as days
    from limit_touched t where not exists (
      select from limit_state s where s.license_id = t.license_id and s.meter = t.meter
        and s.period_start <= t.day and t.day < s.period_end)
    -- No period is longer than 31 days.
    and t.day >= (now() at time zone 'UTC')::date - 76
    and (select end_day from period_of(t.license_id, t.day)) >= (now() at time zone 'UTC')::date - 45
  ), made as (
    select m.* from missing, limit_states_make(licenses, meters, days, nextval('limit_version')) m
    where licenses is not null
  )
  -- The sums of new states were read after this merge's day rows were written.
  update limit_touched t set is_counted = true from made m
  where t.license_id = m.license_id and t.meter = m.meter and t.day >= m.period_start and t.day < m.period_end;

  perform from limit_state s join limit_touched t on s.license_id = t.license_id and s.meter = t.meter
    and s.period_start <= t.day and t.day < s.period_end
  order by s.license_id, s.meter, s.period_start for no key update of s;
  update limit_state s set used = s.used + t.quantity
  from (
    select t.license_id, t.meter, s.period_start, sum(t.quantity)::bigint as quantity
    from limit_touched t join limit_state s on s.license_id = t.license_id and s.meter = t.meter
      and s.period_start <= t.day and t.day < s.period_end
    where not t.is_counted group by 1, 2, 3
  ) t where s.license_id = t.license_id and s.meter = t.meter and s.period_start = t.period_start;

  for due in
    select distinct s.license_id, s.meter, s.period_start
    from limit_touched t join limit_state s on s.license_id = t.license_id and s.meter = t.meter
      and s.period_start <= t.day and t.day < s.period_end
    where s.used >= s.next_quantity order by 1, 2, 3
  loop
    perform limit_judge(due.license_id, due.meter, due.period_start, (
      select jsonb_agg(jsonb_strip_nulls(to_jsonb(e) || jsonb_build_object('traceparent', (
        select t.traceparent from usage_trace t
        where t.license_id = due.license_id and t.meter = due.meter and t.log_epoch = e.log_epoch
          and t.partition = e.partition and t.log_offset between e.first_offset and e.last_offset
        order by t.log_offset desc limit 1))))
      from (
        select log_epoch, partition, min(first_offset) as first_offset, max(last_offset) as last_offset
        from merging m where m.license_id = due.license_id and m.meter = due.meter group by 1, 2) e));
  end loop;

  if exists (
    select from limit_touched t join limit_state s on s.license_id = t.license_id and s.meter = t.meter
      and s.period_start <= t.day and t.day < s.period_end
    where s.is_over and s.used - t.quantity < s.limit_quantity)
  then perform pg_notify('limit_state', ''); end if;
end $$;
