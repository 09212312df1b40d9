-- Secrets, encrypted with METER_ENCRYPTION_KEY. While one is being replaced there are two or more,
-- and all of them sign until they expire.
create table webhook_secret (
  secret_id bigint generated always as identity primary key,
  endpoint_id text collate "C" not null references webhook_endpoint on delete cascade,
  ciphertext bytea not null,
  created_at timestamptz not null default now(),
  -- Null for the newest.
  expires_at timestamptz
);

create unique index webhook_secret_newest on webhook_secret (endpoint_id) where expires_at is null;

create index webhook_secret_by_endpoint on webhook_secret (endpoint_id);
