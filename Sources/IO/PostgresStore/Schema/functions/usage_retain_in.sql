create function usage_retain_in(place text, start timestamptz, finish timestamptz, max_rows int)
returns bigint language plpgsql as $$
declare
  cleared bigint;
  dropped bigint;
begin
  execute format($q$
    update only %1$I set minutes = '', minutes_compacted = 0
    where ctid = any (array(
        select ctid from only %1$I where hour >= $1 and hour < $2
          and written_at < now() - interval '7 days' and minutes <> ''
        limit $3 for update skip locked)) $q$, place) using start, finish, max_rows;
  get diagnostics cleared = row_count;
  execute format($q$
    delete from only %1$I
    where ctid = any (array(
        select ctid from only %1$I where hour >= $1 and hour < $2
          and written_at < now() - interval '400 days'
        limit $3 for update skip locked)) $q$, place) using start, finish, max_rows - cleared;
  get diagnostics dropped = row_count;
  return cleared + dropped;
end $$;
