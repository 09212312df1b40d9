-- Licenses whose state must be computed again. The counter is raised instead of doing nothing,
-- because that takes the row's lock: a sweep that runs meanwhile skips the row, and finds it after
-- the change has committed.
create table limit_change (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  marks bigint not null default 1,
  primary key (license_id, meter)
);
