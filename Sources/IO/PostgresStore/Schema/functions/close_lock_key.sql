-- Held alone by closes, and shared by what a close must not overlap: manual adjustments and changes
-- of anchors. Always taken before limit_lock_key().
create function close_lock_key() returns bigint language sql immutable as $$
  select 84960541031
$$;
