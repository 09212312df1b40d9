-- Rows of small flushes, of consumers that keep up. They wait as those in usage_pending do, and have
-- an index by license as well, so that many of them may wait and each license is still found
-- immediately. A large flush does not pay for that index. The table inherits, so that what reads
-- usage_pending with its children reads it too.
create table usage_pending_recent () inherits (usage_pending) with (autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 100000, autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 1000000000);

create index usage_pending_recent_by_place
  on usage_pending_recent (partition, log_epoch, first_offset);
create index usage_pending_recent_by_license on usage_pending_recent (license_id);
