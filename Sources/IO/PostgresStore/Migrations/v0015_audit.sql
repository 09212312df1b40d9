-- Who changed what (audit_log), and the sessions of people at pages and at the portal.

update schema_version set version = 15;

create function audit_log_refuse() returns trigger language plpgsql as $$
begin
  raise exception 'audit_log is only ever added to' using errcode = 'insufficient_privilege';
end $$;

-- Who changed what. A row is written in the transaction of its change and never changes.
create table audit_log (
  audit_id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  -- operator: a person at meterctl, by the name of the account there.
  actor_kind text not null check (actor_kind in ('token', 'page_session', 'portal_session', 'operator', 'service')),
  actor_id text collate "C" not null check (octet_length(actor_id) between 1 and 256),
  -- What was done, such as license.suspend.
  action text not null check (action ~ '^[a-z_]+([.][a-z_]+)+$' and octet_length(action) <= 64),
  resource_kind text not null check (octet_length(resource_kind) between 1 and 64),
  resource_id text collate "C" not null check (octet_length(resource_id) <= 1024),
  -- Whose the resource is. No foreign key: the log outlives what it tells of.
  customer_id text collate "C",
  -- Of a change, only the members that differ. Never a secret.
  before jsonb check (octet_length(before::text) <= 65536),
  after jsonb check (octet_length(after::text) <= 65536),
  request_id text check (octet_length(request_id) <= 128),
  address text check (octet_length(address) <= 64),
  user_agent text check (octet_length(user_agent) <= 512),
  -- The HTTP status that the actor was answered; 200 at meterctl.
  status int not null check (status between 100 and 599)
);

create index audit_log_by_time on audit_log (at, audit_id);

create index audit_log_by_resource on audit_log (resource_kind, resource_id, at);

create index audit_log_by_customer on audit_log (customer_id, at) where customer_id is not null;

create trigger audit_log_never_changes before update or delete or truncate on audit_log
  for each statement execute function audit_log_refuse();

-- Links that sign a customer in once, and the sessions that they begin. Only hashes of what the
-- link and the cookie hold are kept, so that who reads the database cannot sign in.
create table portal_session (
  session_id text collate "C" primary key,
  customer_id text not null references customer,
  -- Null: all licenses of the customer, those too that come later.
  license_ids text[] check (cardinality(license_ids) between 1 and 1000),
  read_only boolean not null,
  theme text not null check (theme in ('auto', 'light', 'dark')),
  return_url text check (octet_length(return_url) <= 2048),
  created_at timestamptz not null default now(),
  created_by text collate "C" not null,
  expires_at timestamptz not null,
  revoked_at timestamptz,
  sign_in_hash bytea not null unique check (octet_length(sign_in_hash) = 32),
  -- Set once: a link that was used signs nobody in.
  signed_in_at timestamptz,
  cookie_hash bytea unique check (octet_length(cookie_hash) = 32),
  csrf_secret bytea check (octet_length(csrf_secret) = 32),
  constraint portal_session_signed_in_has_cookie
    check ((signed_in_at is null) = (cookie_hash is null) and (signed_in_at is null) = (csrf_secret is null)),
  constraint portal_session_expires_after_creation check (expires_at > created_at)
);

create index portal_session_by_customer on portal_session (customer_id, created_at);

create index portal_session_by_expiry on portal_session (expires_at);

-- A browser that signed in with a token. It may do what the token may, for as long as the token holds.
create table page_session (
  session_id text collate "C" primary key,
  token_id text collate "C" not null references api_token on delete cascade,
  cookie_hash bytea not null unique check (octet_length(cookie_hash) = 32),
  csrf_secret bytea not null check (octet_length(csrf_secret) = 32),
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  ended_at timestamptz,
  constraint page_session_expires_after_creation check (expires_at > created_at)
);

create index page_session_by_token on page_session (token_id, created_at);

create index page_session_by_expiry on page_session (expires_at);

-- Licenses are searched by domain.
create index license_by_domain on license using gin (domains);
