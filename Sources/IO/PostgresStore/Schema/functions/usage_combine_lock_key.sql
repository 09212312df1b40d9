-- Held exclusively while appended rows are combined, and by a close. A merge that writes hour and
-- day rows holds it shared. A merge that does not get it without waiting appends instead. Whoever
-- waits for it takes it before limit_lock_key().
create function usage_combine_lock_key() returns bigint language sql immutable as $$
  select 84960541032
$$;
