-- Names each changed license, so that caches read that one again. If many change in one statement,
-- the payload is empty, because the whole server shares the queue.
create function license_notify() returns trigger language plpgsql as $$
declare
  ids text[];
begin
  select array_agg(license_id) into ids from (select distinct license_id from changed limit 101) c;
  if cardinality(ids) > 100 or exists (select from unnest(ids) id where octet_length(id) > 1024) then
    perform pg_notify('license_change', '');
  else
    perform pg_notify('license_change', id) from unnest(ids) id;
  end if;
  return null;
end $$;
