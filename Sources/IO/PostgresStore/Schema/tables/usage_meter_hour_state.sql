-- The first hour for which the hours of meters exist. Events of earlier ones were merged before the
-- table existed.
create table usage_meter_hour_state (
  only_row boolean primary key default true
    constraint usage_meter_hour_state_is_one_row check (only_row),
  complete_from timestamptz not null
);
