-- What metering-api keeps: answered POST requests, and the secret that signs its cursors.

update schema_version set version = 16;

-- POST requests of metering-api that were carried out and had an Idempotency-Key. Neither the key nor the answer can be
-- read from here: the answer is sealed with a key that is derived from the client's own.
create table api_idempotency (
  key_hash bytea primary key check (octet_length(key_hash) = 32),
  -- Of the path and the body.
  fingerprint bytea not null check (octet_length(fingerprint) = 32),
  answer bytea,
  created_at timestamptz not null default now()
);

create index api_idempotency_by_age on api_idempotency (created_at);

-- What metering-api signs cursors and forms with. Whoever reads it can make up a cursor, and nothing more.
create table api_secret (
  only_row boolean primary key default true constraint api_secret_is_one_row check (only_row),
  secret bytea not null check (octet_length(secret) >= 32)
);

insert into api_secret (secret) values (sha256(convert_to(
  gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));
