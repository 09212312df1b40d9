create table schema_version (
  only_row boolean primary key default true check (only_row),
  version int not null,
  min_compatible int not null
);
