-- Links that sign a customer in once, and the sessions that they begin. Only hashes of the link's
-- and the cookie's contents are stored, so that somebody who reads the database cannot sign in.
create table portal_session (
  session_id text collate "C" primary key,
  customer_id text not null references customer,
  -- Null for all licenses of the customer, including later ones.
  license_ids text[] check (cardinality(license_ids) between 1 and 1000),
  read_only boolean not null,
  theme text not null check (theme in ('auto', 'light', 'dark')),
  return_url text check (octet_length(return_url) <= 2048),
  created_at timestamptz not null default now(),
  created_by text collate "C" not null,
  expires_at timestamptz not null,
  revoked_at timestamptz,
  sign_in_hash bytea not null unique check (octet_length(sign_in_hash) = 32),
  -- Set once. A used link signs nobody in.
  signed_in_at timestamptz,
  cookie_hash bytea unique check (octet_length(cookie_hash) = 32),
  csrf_secret bytea check (octet_length(csrf_secret) = 32),
  constraint portal_session_signed_in_has_cookie
    check ((signed_in_at is null) = (cookie_hash is null) and (signed_in_at is null) = (csrf_secret is null)),
  constraint portal_session_expires_after_creation check (expires_at > created_at)
);

create index portal_session_by_customer on portal_session (customer_id, created_at);

create index portal_session_by_expiry on portal_session (expires_at);
