-- POST requests to metering-api with an Idempotency-Key that were carried out. Neither the key nor
-- the answer can be read from this table: the answer is sealed with a key that is derived from the
-- client's own.
create table api_idempotency (
  key_hash bytea primary key check (octet_length(key_hash) = 32),
  -- The fingerprint of the path and the body.
  fingerprint bytea not null check (octet_length(fingerprint) = 32),
  answer bytea,
  created_at timestamptz not null default now()
);

create index api_idempotency_by_age on api_idempotency (created_at);
