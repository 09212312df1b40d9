-- Copies of dead letters that Kafka refused are tried again, later and later.

update schema_version set version = 7;

alter table dead_letter add column forward_attempts int not null default 0;
-- Not before; null: at once.
alter table dead_letter add column forward_after timestamptz;
