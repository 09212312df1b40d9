-- What is not in the rows of hours and days yet: what no merge has taken, and what large merges have
-- appended. Whoever reads hours and days adds these.
create view usage_waiting as
select log_epoch, partition, license_id, meter, hour, first_offset, last_offset, quantity, event_count,
  minutes, dimensions
from usage_unmerged
union all
select log_epoch, partition, license_id, meter, hour, first_offset, last_offset, quantity, event_count,
  minutes, dimensions
from usage_appended;
