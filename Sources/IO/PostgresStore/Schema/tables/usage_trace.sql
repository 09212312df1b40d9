-- The traces of flushes whose groups may bring a license to a threshold. For each group this is the
-- trace of the last event that had one. Every row belongs to a row of usage_pending and is written
-- with it. The merge that takes that row puts the trace into the evidence of the alert that it
-- raises, and deletes this row.
create table usage_trace (
  log_epoch int not null,
  partition int not null,
  license_id text collate "C" not null,
  meter text collate "C" not null,
  -- The last offset of the group.
  log_offset bigint not null,
  traceparent text not null constraint usage_trace_is_a_traceparent check (octet_length(traceparent) = 55)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);

create index usage_trace_by_license on usage_trace (license_id, meter);
