create view usage_provenance as
select license_id, meter, hour as bucket_start, log_epoch, partition,
  min(first_offset) as first_offset, max(last_offset) as last_offset
from (
  select license_id, meter, hour, log_epoch, partition, first_offset, last_offset from usage_hour
  union all
  select license_id, meter, hour, log_epoch, partition, first_offset, last_offset from usage_waiting
) u
where hour > (select newest_hour_gone from usage_retention)
  or not usage_hour_gone(license_id, meter, hour)
group by license_id, meter, hour, log_epoch, partition;
