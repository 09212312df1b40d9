-- The secret with which metering-api signs cursors and forms. With it somebody could forge a
-- cursor, but nothing else.
create table api_secret (
  only_row boolean primary key default true constraint api_secret_is_one_row check (only_row),
  secret bytea not null check (octet_length(secret) >= 32)
);
