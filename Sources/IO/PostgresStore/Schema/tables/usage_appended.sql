-- Rows that large merges have taken from usage_pending and that usage_combine has not yet added to
-- the hour and day rows. They are found by license, and already count in the totals, the limits and
-- late usage. The table inherits, so services from before schema 29 that read usage_pending read it
-- too. `only usage_pending` has the rows that no merge has taken, which are read as usage_unmerged.
create table usage_appended () inherits (usage_pending) with (autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 100000, autovacuum_vacuum_insert_threshold = -1,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 200000);

create index usage_appended_by_license on usage_appended (license_id, hour);
