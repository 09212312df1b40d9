-- Shows where the rows begin that no merge has taken. The index usage_pending_by_place orders the rows
-- of usage_pending by partition, epoch and offset, and the marks of usage_merged cut it into runs. A run
-- begins at the mark of its partition and also contains the following partitions that have no mark.
create view usage_pending_run as
select m.partition, m.log_epoch, m.next_offset,
  coalesce(lead(m.partition) over (order by m.partition) - 1, 2147483647) as last_partition
from (
  select partition, log_epoch, next_offset from usage_merged
  union all
  select '-2147483648'::int, 0, 0
) m;
