-- A browser that signed in with a token. It may do what the token may, for as long as the token is
-- valid.
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
