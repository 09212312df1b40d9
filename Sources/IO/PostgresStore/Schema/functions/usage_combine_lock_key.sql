-- Held alone while appended rows are combined, and by a close. A merge that writes hour and day rows
-- holds it shared; one that does not get it without waiting appends instead. Always taken before
-- limit_lock_key() by whoever waits for it.
create function usage_combine_lock_key() returns bigint language sql immutable as $$
  select 84960541032
$$;
