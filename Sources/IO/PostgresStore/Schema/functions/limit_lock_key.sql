-- Merges hold it shared and sweeps hold it exclusively, so that a sweep's sums never miss a merge
-- that did not know about the change.
create function limit_lock_key() returns bigint language sql immutable as $$ select 84960541029 $$;
