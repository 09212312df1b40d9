-- Forgets states of periods that merges no longer add to; one that is needed again is made from the day rows.
create function limit_states_retain() returns bigint language sql as $$
  with gone as (
    delete from limit_state where period_end < (now() at time zone 'UTC')::date - 45 returning 1
  ) select count(*) from gone
$$;
