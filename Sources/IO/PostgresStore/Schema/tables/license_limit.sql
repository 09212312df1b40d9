create table license_limit (
  license_id text collate "C" not null references license on delete cascade,
  meter text not null,
  quantity bigint not null check (quantity >= 0),
  primary key (license_id, meter)
);

-- Finds the limits that are used up before anything is used.
create index license_limit_of_zero on license_limit (license_id, meter) where quantity = 0;

create trigger limit_changed after insert or delete on license_limit for each row execute function limit_changed();

create trigger limit_raised after update on license_limit for each row
  when (old.* is distinct from new.*) execute function limit_changed();

create trigger license_limit_inserted after insert on license_limit referencing new table as changed
  for each statement execute function license_notify();

create trigger license_limit_updated after update on license_limit referencing new table as changed
  for each statement execute function license_notify();

create trigger license_limit_deleted after delete on license_limit referencing old table as changed
  for each statement execute function license_notify();
