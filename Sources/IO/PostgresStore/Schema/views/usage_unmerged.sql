-- Shows the rows of usage_pending that no merge has taken, with their places in the table. The index
-- usage_pending_by_place orders rows by partition, epoch and offset, and the marks of usage_merged cut it
-- into runs. A run begins at the mark of its partition and also contains the following partitions that
-- have no mark. `offset 0` makes the planner look up each run separately.
create view usage_unmerged as
select p.log_epoch, p.partition, p.license_id, p.meter, p.hour, p.first_offset, p.last_offset,
  p.quantity, p.event_count, p.minutes, p.dimensions, p.place
from (
  select m.partition, m.log_epoch, m.next_offset,
    coalesce(lead(m.partition) over (order by m.partition) - 1, 2147483647) as last_partition
  from (
    select partition, log_epoch, next_offset from usage_merged
    union all
    select '-2147483648'::int, 0, 0
  ) m
) r, lateral (
  select q.*, q.ctid as place from only usage_pending q
  where q.partition >= r.partition and q.partition <= r.last_partition
    and (q.partition, q.log_epoch, q.first_offset) >= (r.partition, r.log_epoch, r.next_offset)
  offset 0
) p;
