-- Removes states of periods to which merges no longer add. If one is needed again, it is computed
-- from the day rows.
create function limit_states_retain() returns bigint language sql as $$
  with old as (
    -- Merges lock states in the order of their keys.
    select license_id, meter, period_start from limit_state
    where period_end < (now() at time zone 'UTC')::date - 45
    order by 1, 2, 3 for update skip locked
  ), gone as (
    delete from limit_state s using old o
    where s.license_id = o.license_id and s.meter = o.meter and s.period_start = o.period_start
    returning 1
  ) select count(*) from gone
$$;
