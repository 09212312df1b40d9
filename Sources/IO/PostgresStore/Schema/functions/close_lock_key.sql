-- Closes hold it exclusively. Manual adjustments and changes of anchors, which must not overlap
-- with a close, hold it shared. It is always taken before limit_lock_key().
create function close_lock_key() returns bigint language sql immutable as $$
  select 84960541031
$$;
