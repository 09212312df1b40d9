-- Folds hold it alone, and changes of licenses hold it shared. Neither a flush, nor a merge, nor a
-- reader waits for it.
create function usage_fold_lock_key() returns bigint language sql immutable as $$
  select 84960541030
$$;
