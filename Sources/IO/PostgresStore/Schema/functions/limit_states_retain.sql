-- Removes states of periods to which merges no longer add. If one is needed again, it is computed
-- from the day rows.
create function limit_states_retain() returns bigint language sql as $$
  with gone as (
    delete from limit_state where period_end < (now() at time zone 'UTC')::date - 45 returning 1
  ) select count(*) from gone
$$;
