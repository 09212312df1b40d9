-- Shows the rows of usage_pending that no merge has taken, with their places in the table. Large
-- flushes wrote them. `offset 0` makes the planner look up each run separately. It also keeps
-- conditions on licenses out, so every row is read.
create view usage_unmerged_large as
select p.log_epoch, p.partition, p.license_id, p.meter, p.hour, p.first_offset, p.last_offset,
  p.quantity, p.event_count, p.minutes, p.dimensions, p.place
from usage_pending_run r, lateral (
  select q.*, q.ctid as place from only usage_pending q
  where q.partition >= r.partition and q.partition <= r.last_partition
    and (q.partition, q.log_epoch, q.first_offset) >= (r.partition, r.log_epoch, r.next_offset)
  offset 0
) p;
