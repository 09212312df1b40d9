-- The usage of a meter in an hour by all licenses together. A merge appends to the deltas, a fold
-- moves them here, and readers add both and what is pending.
create table usage_meter_hour (
  hour timestamptz not null,
  meter text collate "C" not null,
  quantity numeric not null,
  event_count bigint not null,
  primary key (hour, meter)
) with (fillfactor = 70);
