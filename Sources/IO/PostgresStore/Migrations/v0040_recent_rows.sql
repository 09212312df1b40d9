-- Rows of small flushes are found by license, so that more of them may wait.
--
-- While 50,000 events a second over 100,000 licenses were counted, every merge took about as many rows
-- as it then wrote, because hardly any license came twice before it. Merging less often is cheaper, but
-- each reader walks over what waits. Rows of small flushes now have an index by license in a table of
-- their own. A large flush, of a consumer that catches up, does not pay for it.

update schema_version set version = 40;

create table usage_pending_recent () inherits (usage_pending) with (autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 100000, autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 1000000000);

create index usage_pending_recent_by_place
  on usage_pending_recent (partition, log_epoch, first_offset);
create index usage_pending_recent_by_license on usage_pending_recent (license_id);

-- Services go on between this migration and deploy/roles.sql.
do $grants$
declare
  given record;
begin
  for given in
    select distinct a.grantee::regrole as role, a.privilege_type as privilege
    from pg_class c, aclexplode(c.relacl) a
    where c.oid = 'usage_pending'::regclass and a.grantee <> 0
      and a.privilege_type in ('SELECT', 'INSERT')
  loop
    execute format('grant %s on usage_pending_recent to %s', given.privilege, given.role);
  end loop;
end $grants$;

create view usage_unmerged_large as
select p.log_epoch, p.partition, p.license_id, p.meter, p.hour, p.first_offset, p.last_offset,
  p.quantity, p.event_count, p.minutes, p.dimensions, p.place
from usage_pending_run r, lateral (
  select q.*, q.ctid as place from only usage_pending q
  where q.partition >= r.partition and q.partition <= r.last_partition
    and (q.partition, q.log_epoch, q.first_offset) >= (r.partition, r.log_epoch, r.next_offset)
  offset 0
) p;

-- Replacing a view waits for its readers, and other readers would queue behind. So the lock is given up
-- after a moment and tried again.
do $do$
declare
  tries int := 0;
begin
  perform set_config('lock_timeout', '100ms', true);
  loop
    tries := tries + 1;
    begin
      create or replace view usage_unmerged as
      select log_epoch, partition, license_id, meter, hour, first_offset, last_offset, quantity, event_count,
        minutes, dimensions, place
      from usage_unmerged_large
      union all
      select log_epoch, partition, license_id, meter, hour, first_offset, last_offset, quantity, event_count,
        minutes, dimensions, ctid
      from usage_pending_recent;
      exit;
    exception when lock_not_available then
      if tries = 2000 then raise; end if;
      perform pg_sleep(0.1);
    end;
  end loop;
  perform set_config('lock_timeout', '0', true);
end $do$;

create or replace function usage_waiting_of(licenses text[])
returns table (log_epoch int, partition int, license_id text, meter text, hour timestamptz,
  first_offset bigint, last_offset bigint, quantity bigint, event_count bigint, minutes text,
  dimensions text)
language sql stable parallel safe as $$
  select p.* from usage_pending_run r, lateral (
    select q.* from only usage_pending q
    where q.partition >= r.partition and q.partition <= r.last_partition
      and (q.partition, q.log_epoch, q.first_offset) >= (r.partition, r.log_epoch, r.next_offset)
      and q.license_id = any (licenses)
    offset 0) p
  union all
  select q.* from usage_pending_recent q where q.license_id = any (licenses)
  union all
  select a.* from usage_appended a where a.license_id = any (licenses)
$$;

create function usage_unfolded_of(customers text[])
returns table (customer_id text, license_id text, meter text, day date, quantity bigint,
  event_count bigint)
language sql stable parallel safe as $$
  select l.customer_id, d.license_id, d.meter, d.day, d.quantity, d.event_count
  from usage_delta d join license l on l.license_id = d.license_id
  where coalesce(d.license_id in (
    select w.license_id from license w where w.customer_id = any (customers)), false)
  union all
  select l.customer_id, p.license_id, p.meter, (p.hour at time zone 'UTC')::date, p.quantity,
    p.event_count
  from usage_unmerged_large p join license l on l.license_id = p.license_id
  where coalesce(p.license_id in (
    select w.license_id from license w where w.customer_id = any (customers)), false)
  union all
  select l.customer_id, q.license_id, q.meter, (q.hour at time zone 'UTC')::date, q.quantity,
    q.event_count
  from license l, lateral (
    select * from usage_pending_recent q where q.license_id = l.license_id offset 0) q
  where l.customer_id = any (customers)
$$;

create or replace function customer_days_by_totals(customer text, from_day date, to_day date)
returns table (meter text, day date, quantity numeric, event_count bigint)
language sql stable parallel safe as $$
  select u.meter, u.day, sum(u.quantity), sum(u.event_count)::bigint
  from (
    select t.meter, t.day, t.quantity, t.event_count from usage_customer_day t
    where t.customer_id = customer and t.day >= from_day and t.day < to_day
    union all
    select w.meter, w.day, w.quantity, w.event_count
    from usage_unfolded_of(array[customer]) w where w.day >= from_day and w.day < to_day
  ) u group by 1, 2 having sum(u.event_count) <> 0
$$;

create or replace function customer_periods_by_totals(customer text, from_day date, to_day date)
returns table (license_id text, meter text, period_start date, period_end date, quantity numeric,
  event_count bigint)
language sql stable parallel safe as $$
  select u.license_id, u.meter, u.period_start, u.period_end, sum(u.quantity),
    sum(u.event_count)::bigint
  from (
    select t.license_id, t.meter, t.period_start, t.period_end, t.quantity, t.event_count
    from license l, lateral (
      select t.* from usage_license_period t where t.license_id = l.license_id
        and t.period_end > from_day and t.period_start < to_day offset 0) t
    where l.customer_id = customer
    union all
    select w.license_id, w.meter, p.first_day, p.end_day, w.quantity, w.event_count
    from usage_unfolded_of(array[customer]) w, period_of(w.license_id, w.day) p
    where p.end_day > from_day and p.first_day < to_day
    union all
    select t.license_id, t.meter, t.period_start, t.period_end, -t.quantity, -t.event_count
    from usage_late_total t join license l on l.license_id = t.license_id
    where l.customer_id = customer and t.period_end > from_day and t.period_start < to_day
    union all
    select t.license_id, t.meter, t.period_start, t.period_end, 0, 0
    from license l, lateral (
      select t.* from usage_period_closed t where t.license_id = l.license_id
        and t.period_end > from_day and t.period_start < to_day and t.event_count = 0 offset 0) t
    where l.customer_id = customer
  ) u group by 1, 2, 3, 4
$$;

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

create or replace function usage_close_chosen(of_close bigint) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  made bigint;
  state usage_total_state;
begin
  -- This lock comes before the one that merges wait for. Mostly nothing is appended, and then the
  -- close does not wait for combining.
  if usage_closing_appended() then perform pg_advisory_xact_lock(usage_combine_lock_key()); end if;
  perform pg_advisory_xact_lock(limit_lock_key());
  with large as (
    delete from only usage_pending where ctid = any (array(
      select p.place from usage_unmerged_large p join closing c on c.license_id = p.license_id
        and p.hour < c.boundary::timestamp at time zone 'UTC'
      where p.hour < (select max(boundary)::timestamp at time zone 'UTC' from closing)))
    returning *
  ), recent as (
    delete from usage_pending_recent where ctid = any (array(
      select p.place from closing c, lateral (
        select q.ctid as place from usage_pending_recent q where q.license_id = c.license_id
          and q.hour < c.boundary::timestamp at time zone 'UTC' offset 0) p))
    returning *
  ) insert into merging select * from large union all select * from recent;
  if found then
    perform usage_merging_isolate();
    perform usage_closed_domains_keep();
    perform usage_merging_append();
    perform usage_merging_count();
    delete from merging;
  end if;
  -- Appended rows go into the days now, so that a statement always has the same domains.
  if usage_closing_appended() then
    perform pg_advisory_xact_lock(usage_combine_lock_key());
    with taken as (
      delete from usage_appended where ctid = any (array(
        select a.place from closing c, lateral (
          select u.ctid as place from usage_appended u where u.license_id = c.license_id
            and u.hour < c.boundary::timestamp at time zone 'UTC' offset 0) a))
      returning *
    ) insert into merging select * from taken;
    perform usage_merging_settle_fitting();
  end if;

  -- Totals that are made stay made, so both functions get the same state.
  select * into state from usage_total_state;
  perform usage_closing_by_totals(state.made_through, state.is_complete);
  if not state.is_complete then perform usage_closing_by_days(state.made_through); end if;
  -- Periods that were closed one by one before are left out. Here and below, large tables are
  -- looked up by their keys, whatever the planner guesses, because a walk over years of closed
  -- periods would cost more than the close.
  delete from closing_period p where exists (
    select from usage_period_closed x where x.license_id = p.license_id and x.meter = p.meter
      and x.period_start = p.period_start offset 0);

  -- Late usage goes on the invoices that are closed now.
  insert into closing_late
  select t.license_id, t.meter, t.period_start, n.invoiced, t.quantity - t.recorded_quantity,
    t.event_count - t.recorded_event_count
  from closing c, lateral (
      select * from usage_late u where u.license_id = c.license_id
        and (u.quantity <> u.recorded_quantity or u.event_count <> u.recorded_event_count)
      offset 0) t,
    lateral (select next_open_period(t.license_id, t.meter, t.period_end) as invoiced offset 0) n
  where (c.meter is null or t.meter = c.meter)
    and n.invoiced >= c.closed_from and n.invoiced < c.boundary;
  insert into closing_period
  select a.license_id, a.meter, p.first_day, p.end_day, 0, 0
  from (
    select license_id, meter, invoiced from closing_late
    union
    select e.license_id, e.meter, e.invoiced_period_start
    from closing c, lateral (
      select * from usage_adjustment_entry i where i.license_id = c.license_id offset 0) e
    where e.invoiced_period_start >= c.closed_from and e.invoiced_period_start < c.boundary
      and (c.meter is null or e.meter = c.meter)
  ) a, period_of(a.license_id, a.invoiced) p
  where not exists (
    select from usage_period_closed x where x.license_id = a.license_id and x.meter = a.meter
      and x.period_start <= a.invoiced and a.invoiced < x.period_end offset 0)
  on conflict do nothing;

  insert into usage_period_closed (license_id, meter, period_start, period_end, quantity,
    event_count, included, overage, customer_id, closed_at, close_id, customer_name, bound_domains)
  select p.license_id, p.meter, p.period_start, p.period_end, p.quantity, p.event_count, l.quantity,
    case when l.quantity is null then 0 else least(greatest(p.quantity - l.quantity + coalesce((
      select sum(e.quantity) from usage_adjustment_entry e
      where e.license_id = p.license_id and e.meter = p.meter and e.kind = 'manual'
        and e.applies_to_period_start >= p.period_start
        and e.applies_to_period_start < p.period_end), 0), 0), 9000000000000000000) end,
    c.customer_id, now(), of_close, n.name, coalesce(b.domains, '{}')
  from closing_period p join closing c on c.license_id = p.license_id
  left join lateral (
    select i.quantity from license_limit i where i.license_id = p.license_id and i.meter = p.meter
    offset 0) l on true
  left join lateral (
    select i.name from customer i where i.customer_id = c.customer_id offset 0) n on true
  left join lateral (
    select i.domains from license i where i.license_id = p.license_id offset 0) b on true
  order by 1, 2, 3;
  get diagnostics made = row_count;

  insert into usage_adjustment_entry (adjustment_id, license_id, meter, applies_to_period_start,
    invoiced_period_start, kind, quantity, event_count, reason, recorded_by)
  select concat_ws(':', 'late', t.license_id, t.meter, t.period_start, t.invoiced), t.license_id,
    t.meter, t.period_start, t.invoiced, 'late', t.quantity, t.event_count,
    'counted after the period was closed', 'usage-aggregator'
  from closing_late t order by t.license_id, t.meter, t.period_start;
  update usage_late t set recorded_quantity = t.quantity, recorded_event_count = t.event_count
  from closing_late n where t.license_id = n.license_id and t.meter = n.meter
    and t.period_start = n.period_start;

  insert into license_closing as k (license_id, closed_through, frozen_through, close_id, closed_at)
  select license_id, case when meter is null then boundary else '-infinity' end, boundary, of_close,
    now()
  from closing order by 1
  on conflict (license_id) do update set
    closed_through = greatest(k.closed_through, excluded.closed_through),
    frozen_through = greatest(k.frozen_through, excluded.frozen_through),
    close_id = excluded.close_id, closed_at = excluded.closed_at
  where excluded.closed_through > k.closed_through or excluded.frozen_through > k.frozen_through;
  update usage_close set closed = closed + made where close_id = of_close;
  return made;
end $$;
