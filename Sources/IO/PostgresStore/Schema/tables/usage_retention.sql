-- The latest hour of which retention has dropped a row. Only up to this hour must views ask whether
-- an hour is gone.
create table usage_retention (
  only_row boolean primary key default true
    constraint usage_retention_is_one_row check (only_row),
  newest_hour_gone timestamptz not null default '-infinity'
);
