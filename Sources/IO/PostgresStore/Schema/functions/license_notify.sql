-- Each changed license is named, so that caches read that one again; of many at once only that there are many is told (an empty payload):
-- the queue is shared by the whole server.
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
