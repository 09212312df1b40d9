-- How far totals have been judged, in slots of ten minutes. There is one row, which belongs to
-- whichever anomaly-detector judges. A slot is judged when the aggregator has passed `log_ends`,
-- the ends of the log's partitions after `covered_until`.
create table usage_watch (
  only_row boolean primary key default true constraint usage_watch_is_one_row check (only_row),
  next_slot timestamptz not null,
  covered_until timestamptz,
  log_ends bigint[],
  chosen_on date
);
