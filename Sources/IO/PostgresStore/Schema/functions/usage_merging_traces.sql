-- Deletes the traces of what `merging` contains. Offsets of a partition only grow from flush to
-- flush, so a trace at or below the last merged offset belongs to what was merged. Traces that
-- another merge holds are passed over, because that merge or the next one deletes them.
create function usage_merging_traces() returns void language plpgsql as $$
begin
  if not exists (select from usage_trace) then return; end if;
  delete from usage_trace where ctid = any (array(
    select t.ctid from usage_trace t
    join (select partition, log_epoch, max(last_offset) as last_offset from merging group by 1, 2) m using (partition)
    where t.log_epoch < m.log_epoch or (t.log_epoch = m.log_epoch and t.log_offset <= m.last_offset)
    for update of t skip locked));
end $$;
