-- Takes the pending rows of some partitions into `merging`, moves the partitions' marks behind them, and
-- returns the number of rows. The offset of a partition orders its flushes, so a snapshot that sees an
-- offset also sees all rows before it. That is why the offsets are read first: the later statement deletes
-- all rows before them. Whoever holds the row of a mark may move it, and meanwhile nobody can set the
-- offset back (usage_merged_reset). A mark that somebody else holds is not waited for and stays.
create or replace function usage_merging_take(owned int[]) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  starts usage_merged[];
  held int[];
  ends usage_merged[];
  moved bigint;
  moved_recent bigint;
begin
  -- The marks come first: whoever sets an offset back also sets its mark back, and then no place that
  -- was read here may be used.
  select array_agg(m.partition) into held from (
    select partition from usage_merged where partition = any (owned) for update skip locked) m;
  select array_agg(
      (u.partition, coalesce(m.log_epoch, 0), coalesce(m.next_offset, 0))::usage_merged)
    into starts
  from unnest(owned) u(partition) left join usage_merged m on m.partition = u.partition;
  if not exists (
    select from unnest(starts) s, lateral (
      select from only usage_pending p where p.partition = s.partition
        and (p.log_epoch, p.first_offset) >= (s.log_epoch, s.next_offset) limit 1) p)
    and not exists (
      select from unnest(starts) s, lateral (
        select from usage_pending_recent p where p.partition = s.partition
          and (p.log_epoch, p.first_offset) >= (s.log_epoch, s.next_offset) limit 1) p)
  then return 0; end if;

  select array_agg((o.partition, o.log_epoch, o.next_offset)::usage_merged) into ends
  from consumer_offset o
  where o.consumer_group = 'usage-aggregator' and o.topic = 'license.usage.v1'
    and o.partition = any (held);
  create temp table if not exists merging (like usage_pending) on commit delete rows;
  -- Rows are deleted in the order of their places in a table, and those of usage_pending first, so
  -- that two merges of the same partition cannot deadlock.
  if pg_relation_size('usage_pending') <= 64 << 20 then
    -- Most of a small table is what is taken, and walking over it costs less than looking it up.
    with taken as (
      delete from only usage_pending where ctid = any (array(
        select q.ctid from only usage_pending q where q.partition = any (owned)))
      returning *
    ) insert into merging select * from taken;
    get diagnostics moved = row_count;
  else
    -- Each partition is looked up separately, whatever size the planner assumes for the table.
    with taken as (
      delete from only usage_pending where ctid = any (array(
        select p.place from unnest(starts) s, lateral (
          select q.ctid as place from only usage_pending q where q.partition = s.partition
            and (q.log_epoch, q.first_offset) >= (s.log_epoch, s.next_offset) offset 0) p))
      returning *
    ) insert into merging select * from taken;
    get diagnostics moved = row_count;
  end if;
  -- The merge of a limit takes a single partition, often while many rows of others wait here.
  if pg_relation_size('usage_pending_recent') <= 8 << 20 then
    with taken as (
      delete from usage_pending_recent where ctid = any (array(
        select q.ctid from usage_pending_recent q where q.partition = any (owned)))
      returning *
    ) insert into merging select * from taken;
    get diagnostics moved_recent = row_count;
  else
    with taken as (
      delete from usage_pending_recent where ctid = any (array(
        select p.place from unnest(starts) s, lateral (
          select q.ctid as place from usage_pending_recent q where q.partition = s.partition
            and (q.log_epoch, q.first_offset) >= (s.log_epoch, s.next_offset) offset 0) p))
      returning *
    ) insert into merging select * from taken;
    get diagnostics moved_recent = row_count;
  end if;
  update usage_merged m set log_epoch = e.log_epoch, next_offset = e.next_offset
  from unnest(ends) e
  where m.partition = e.partition and (m.log_epoch, m.next_offset) < (e.log_epoch, e.next_offset);
  return moved + moved_recent;
end $$;
