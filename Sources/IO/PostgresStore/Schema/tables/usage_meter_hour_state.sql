-- From which hour on the hours of meters are there: events of earlier ones were merged before the table was.
create table usage_meter_hour_state (
  only_row boolean primary key default true
    constraint usage_meter_hour_state_is_one_row check (only_row),
  complete_from timestamptz not null
);
