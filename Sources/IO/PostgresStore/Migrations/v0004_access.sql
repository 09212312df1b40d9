-- What the validation service reads: who may call, and word of what changed.

update schema_version set version = 4;

-- Bearer tokens; only their SHA-256 is kept, so that who reads the database cannot call.
create table api_token (
  token_id text collate "C" primary key,
  name text not null,
  token_hash bytea not null unique check (octet_length(token_hash) = 32),
  scopes text[] not null,
  -- Null: the vendor's own.
  customer_id text references customer,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  revoked_at timestamptz
);
create index api_token_by_customer on api_token (customer_id);

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
create trigger license_inserted after insert on license referencing new table as changed
  for each statement execute function license_notify();
create trigger license_updated after update on license referencing new table as changed
  for each statement execute function license_notify();
create trigger license_deleted after delete on license referencing old table as changed
  for each statement execute function license_notify();
create trigger license_limit_inserted after insert on license_limit referencing new table as changed
  for each statement execute function license_notify();
create trigger license_limit_updated after update on license_limit referencing new table as changed
  for each statement execute function license_notify();
create trigger license_limit_deleted after delete on license_limit referencing old table as changed
  for each statement execute function license_notify();

create function api_token_notify() returns trigger language plpgsql as $$
begin
  perform pg_notify('api_token', '');
  return null;
end $$;
create trigger api_token_changed after update or delete on api_token
  for each statement execute function api_token_notify();
