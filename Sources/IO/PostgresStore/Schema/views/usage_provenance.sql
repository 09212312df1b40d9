create view usage_provenance as
select license_id, meter, hour as bucket_start, log_epoch, partition,
  min(first_offset) as first_offset, max(last_offset) as last_offset
from (
  select license_id, meter, hour, log_epoch, partition, first_offset, last_offset from usage_hour
  union all
  select license_id, meter, hour, log_epoch, partition, first_offset, last_offset from usage_pending
) u group by license_id, meter, hour, log_epoch, partition;
