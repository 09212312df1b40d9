-- Shows all rows that no merge has taken. `place` is a place in usage_pending or in
-- usage_pending_recent. Rows of small flushes are read without the marks of usage_merged, so that a
-- condition on a license finds them by their index. While an open transaction keeps many of them
-- dead, aggregators write to usage_pending only.
create or replace view usage_unmerged as
select log_epoch, partition, license_id, meter, hour, first_offset, last_offset, quantity, event_count,
  minutes, dimensions, place
from usage_unmerged_large
union all
select log_epoch, partition, license_id, meter, hour, first_offset, last_offset, quantity, event_count,
  minutes, dimensions, ctid
from usage_pending_recent;
