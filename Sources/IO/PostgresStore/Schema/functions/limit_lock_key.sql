-- Held shared by merges and alone by sweeps: a sweep's sums leave out no merge that did not know of the change.
create function limit_lock_key() returns bigint language sql immutable as $$ select 84960541029 $$;
