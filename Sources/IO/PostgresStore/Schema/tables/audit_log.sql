-- Who changed what. A row is written in the transaction of its change, and is never changed.
create table audit_log (
  audit_id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  -- operator: a person who uses meterctl, by the name of the account there.
  actor_kind text not null check (actor_kind in ('token', 'page_session', 'portal_session', 'operator', 'service')),
  actor_id text collate "C" not null check (octet_length(actor_id) between 1 and 256),
  -- The action, such as license.suspend.
  action text not null check (action ~ '^[a-z_]+([.][a-z_]+)+$' and octet_length(action) <= 64),
  resource_kind text not null check (octet_length(resource_kind) between 1 and 64),
  resource_id text collate "C" not null check (octet_length(resource_id) <= 1024),
  -- The customer that the resource belongs to. There is no foreign key, because the log outlives
  -- its subjects.
  customer_id text collate "C",
  -- For a change, only the members that differ. There is never a secret.
  before jsonb check (octet_length(before::text) <= 65536),
  after jsonb check (octet_length(after::text) <= 65536),
  request_id text check (octet_length(request_id) <= 128),
  address text check (octet_length(address) <= 64),
  user_agent text check (octet_length(user_agent) <= 512),
  -- The HTTP status that the API answers such a change with.
  status int not null check (status between 100 and 599)
);

create index audit_log_by_time on audit_log (at, audit_id);

create index audit_log_by_resource on audit_log (resource_kind, resource_id, at);

create index audit_log_by_customer on audit_log (customer_id, at) where customer_id is not null;

create trigger audit_log_never_changes before update or delete or truncate on audit_log
  for each statement execute function audit_log_refuse();
