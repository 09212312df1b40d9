-- Shows what is not in the rows of hours and days yet: rows that no merge has taken, and rows that
-- large merges have appended. Every reader of hours and days adds these.
create view usage_waiting as
select log_epoch, partition, license_id, meter, hour, first_offset, last_offset, quantity, event_count,
  minutes, dimensions
from usage_unmerged
union all
select log_epoch, partition, license_id, meter, hour, first_offset, last_offset, quantity, event_count,
  minutes, dimensions
from usage_appended;
