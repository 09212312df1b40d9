-- What metering-api signs cursors and forms with. Whoever reads it can make up a cursor, and nothing more.
create table api_secret (
  only_row boolean primary key default true constraint api_secret_is_one_row check (only_row),
  secret bytea not null check (octet_length(secret) >= 32)
);
