-- The time until which everything that the usage log had received is counted, as metering-api found
-- out. It only grows. Without a row it is not known yet.
create table usage_progress (
  only_row boolean primary key default true constraint usage_progress_is_one_row check (only_row),
  complete_through timestamptz not null
);
