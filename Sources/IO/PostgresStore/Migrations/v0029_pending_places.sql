-- Readers and merges that pass by what is deleted and cannot be removed yet.
--
-- While a reader's transaction is open nothing can remove what merges have taken out of usage_pending.
-- Whoever added what is pending walked over all of it: after five minutes at 20,000 rows a second over
-- 1 GB, in 0.36 s. Now the rows have an index by their place in the log, and usage_merged says up to
-- which place everything is merged, in every snapshot what holds in that one.
--
-- Services of an older version read usage_pending itself, which is right and slow as before.

update schema_version set version = 29;

-- In the order of the log, for readers and merges that begin where usage_merged says. Rows of a
-- partition come at its end, one after the other.
-- `meterctl migrate` has made it before, without keeping flushes waiting; a database that is new gets
-- it here.
do $do$
begin
  if to_regclass('usage_pending_by_place') is null then
    create index usage_pending_by_place on usage_pending (partition, log_epoch, first_offset);
  end if;
end $do$;

-- Up to which place in the log everything of a partition is merged: no row of usage_pending that a
-- snapshot sees has a place before the one that the same snapshot sees here. Readers and merges begin
-- there, and pass by what is deleted and cannot be removed yet. A partition without a row is walked
-- over whole.
create table usage_merged (
  partition int primary key constraint usage_merged_partition_exists check (partition >= 0),
  log_epoch int not null,
  next_offset bigint not null
) with (fillfactor = 25, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- The rows of usage_pending that no merge has taken, with their places in the table. Rows are in the
-- order of partition, epoch and offset in usage_pending_by_place, and the rows of usage_merged cut it
-- into runs. Each begins where the merged rows of its partition end, and has the partitions without a
-- row behind that one. `offset 0` makes the planner look up each run by itself.
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

-- Runs where a partition of the log of usage gets its offset, or has it set back: rows with places
-- before the mark may come again. It waits for a merge that has read the offset, and is over before the
-- next one reads it.
create function usage_merged_reset() returns trigger language plpgsql as $$
begin
  insert into usage_merged (partition, log_epoch, next_offset) values (new.partition, 0, 0)
  on conflict (partition) do update set log_epoch = 0, next_offset = 0;
  return null;
end $$;

-- Replacing views locks readers out for a moment, and a trigger flushes. Whoever is in the way is not
-- waited for longer than 15 ms at each of them, because others would queue behind this.
do $do$
begin
  perform set_config('lock_timeout', '15ms', true);
  for tries in 1..2000 loop
    begin
      create trigger usage_merged_of_first_offset
        after insert on consumer_offset for each row
        when (new.consumer_group = 'usage-aggregator' and new.topic = 'license.usage.v1')
        execute function usage_merged_reset();

      create trigger usage_merged_of_offset_set_back
        after update on consumer_offset for each row
        when (new.consumer_group = 'usage-aggregator' and new.topic = 'license.usage.v1'
          and (new.log_epoch, new.next_offset) < (old.log_epoch, old.next_offset))
        execute function usage_merged_reset();

      -- Minutes that add up to their hour. Where some were kept no longer when a late event came, none of the hour's are shown.
      create or replace view usage_by_minute as
      select u.license_id, u.meter, u.hour + make_interval(mins => m.minute) as bucket_start, m.quantity,
        m.event_count
      from (
        select license_id, meter, hour, sum(event_count) as all_events,
          string_agg(nullif(minutes, ''), ',') as minutes
        from (
          select license_id, meter, hour, event_count, minutes from usage_hour
          union all
          select license_id, meter, hour, event_count, minutes from usage_waiting
        ) parts group by 1, 2, 3
      ) u, lateral (
        select (e->>0)::int as minute, sum((e->>1)::bigint)::bigint as quantity,
          sum((e->>2)::bigint)::bigint as event_count, sum(sum((e->>2)::bigint)) over () as all_events
        from json_array_elements(('[' || u.minutes || ']')::json) e group by 1
      ) m
      where m.all_events = u.all_events;
      -- An hour whose row was dropped and made again by a late event would show that event alone, so it is not shown.
      create or replace view usage_by_hour as
      select license_id, meter, hour as bucket_start,
        sum(quantity)::bigint as quantity, sum(event_count)::bigint as event_count
      from (
        select license_id, meter, hour, quantity, event_count from usage_hour
        union all
        select license_id, meter, hour, quantity, event_count from usage_waiting
      ) u
      where hour > (select newest_hour_gone from usage_retention)
        or not usage_hour_gone(license_id, meter, hour)
      group by license_id, meter, hour;
      create or replace view usage_by_day as
      select license_id, meter, day::timestamp at time zone 'UTC' as bucket_start,
        sum(quantity)::bigint as quantity, sum(event_count)::bigint as event_count
      from (
        select license_id, meter, day, quantity, event_count from usage_day
        union all
        select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count from usage_waiting
      ) u group by license_id, meter, day;
      create or replace view usage_by_dimension_day as
      select u.license_id, u.meter, u.day::timestamp at time zone 'UTC' as bucket_start, c.dimension, c.value,
        c.quantity, c.event_count
      from (
        select license_id, meter, day, string_agg(dimensions, ',' order by is_pending) as dimensions
        from (
          select license_id, meter, day, dimensions, false as is_pending from usage_day where dimensions <> ''
          union all
          select license_id, meter, (hour at time zone 'UTC')::date, dimensions, true from usage_waiting
          where dimensions <> ''
        ) parts group by license_id, meter, day
      ) u
      left join license l on l.license_id = u.license_id,
        usage_dimensions_capped(u.dimensions, l.domains) c;
      create or replace view usage_provenance as
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
      -- What is pending of closed periods: late, but not in usage_late yet.
      create or replace view usage_late_pending as
      select p.license_id, p.meter,
        greatest(last_anchor(p.day, coalesce(b.anchor_day, 1)), b.effective_from) as period_start,
        least(next_anchor(p.day, coalesce(b.anchor_day, 1)), b.until) as period_end,
        sum(p.quantity)::bigint as quantity, sum(p.event_count)::bigint as event_count
      from (
        select license_id, meter, (hour at time zone 'UTC')::date as day, quantity, event_count
        from usage_unmerged
        -- Mostly nothing is that old, and then nothing else is read.
        where hour < (select max(frozen_through)::timestamp at time zone 'UTC' from license_closing)
      ) p
      join license_closing c on c.license_id = p.license_id and p.day < c.frozen_through
      left join billing_interval b on b.license_id = p.license_id
        and b.effective_from <= p.day and (p.day < b.until or b.until is null)
      where p.day < c.closed_through or exists (
        select from usage_period_closed x where x.license_id = p.license_id and x.meter = p.meter
          and x.period_start <= p.day and p.day < x.period_end)
      group by 1, 2, 3, 4;
      create or replace view usage_by_period as
      select license_id || ':' || meter || ':' || to_char(first_day, 'YYYY-MM-DD') as period_id,
        license_id, meter, first_day::timestamp at time zone 'UTC' as period_start,
        end_day::timestamp at time zone 'UTC' as period_end, quantity, event_count, closed_at, included,
        overage
      from (
        select license_id, meter, period_start as first_day, period_end as end_day, quantity, event_count,
          closed_at, included, overage
        from usage_period_closed
        union all
        -- Nothing was used of the meter when the license was closed, and the first late event is pending.
        select p.license_id, p.meter, p.period_start, p.period_end, 0, 0, c.closed_at, l.quantity, 0
        from usage_late_pending p join license_closing c on c.license_id = p.license_id
        left join license_limit l on l.license_id = p.license_id and l.meter = p.meter
        where not exists (
          select from usage_period_closed x where x.license_id = p.license_id and x.meter = p.meter
            and x.period_start = p.period_start)
        union all
        select license_id, meter, first_day, end_day, sum(quantity)::bigint, sum(event_count)::bigint,
          null, null, null
        from (
          select d.license_id, d.meter, d.quantity, d.event_count,
            greatest(last_anchor(d.day, coalesce(b.anchor_day, 1)), b.effective_from) as first_day,
            least(next_anchor(d.day, coalesce(b.anchor_day, 1)), b.until) as end_day
          from (
            select license_id, meter, day, quantity, event_count from usage_day
            union all
            select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count
            from usage_waiting
          ) d
          left join license_closing c on c.license_id = d.license_id
          left join billing_interval b on b.license_id = d.license_id
            and b.effective_from <= d.day and (d.day < b.until or b.until is null)
          where c.license_id is null or d.day >= c.closed_through and (
            d.day >= c.frozen_through or not exists (
              select from usage_period_closed x where x.license_id = d.license_id and x.meter = d.meter
                and x.period_start <= d.day and d.day < x.period_end))
        ) o group by license_id, meter, first_day, end_day
      ) p;
      -- What is merged and not in the totals, and what is pending. The totals and these add up.
      create or replace view usage_unfolded as
      select license_id, meter, day, quantity, event_count from usage_delta
      union all
      select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count from usage_unmerged;
      -- The sums are made as in billing_usage_by_day.
      create or replace view billing_usage_by_hour as
      select u.customer_id, u.license_id, u.meter, u.hour as bucket_start,
        sum(u.quantity)::bigint as quantity, sum(u.event_count)::bigint as event_count
      from (
        select l.customer_id, s.license_id, s.meter, s.hour, s.quantity, s.event_count
        from license l, lateral (
          select h.license_id, h.meter, h.hour, sum(h.quantity) as quantity,
            sum(h.event_count) as event_count
          from (
            select license_id, meter, hour, quantity, event_count from usage_hour
            where license_id = l.license_id
            union all
            select license_id, meter, hour, quantity, event_count from usage_appended
            where license_id = l.license_id
          ) h group by h.license_id, h.meter, h.hour
        ) s
        union all
        select l.customer_id, p.license_id, p.meter, p.hour, p.quantity, p.event_count
        from usage_unmerged p join license l on l.license_id = p.license_id
      ) u group by u.customer_id, u.license_id, u.meter, u.hour;
      -- The sums of what is merged are made for each license by itself, so that a condition on the customer
      -- reads its licenses' rows and no others. What no merge has taken is walked over once for all.
      create or replace view billing_usage_by_day as
      select u.customer_id, u.license_id, u.meter, u.day::timestamp at time zone 'UTC' as bucket_start,
        sum(u.quantity)::bigint as quantity, sum(u.event_count)::bigint as event_count
      from (
        select l.customer_id, s.license_id, s.meter, s.day, s.quantity, s.event_count
        from license l, lateral (
          select d.license_id, d.meter, d.day, sum(d.quantity) as quantity, sum(d.event_count) as event_count
          from (
            select license_id, meter, day, quantity, event_count from usage_day
            where license_id = l.license_id
            union all
            select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count
            from usage_appended where license_id = l.license_id
          ) d group by d.license_id, d.meter, d.day
        ) s
        union all
        select l.customer_id, p.license_id, p.meter, (p.hour at time zone 'UTC')::date, p.quantity,
          p.event_count
        from usage_unmerged p join license l on l.license_id = p.license_id
      ) u group by u.customer_id, u.license_id, u.meter, u.day;
      exit;
    exception when lock_not_available then
      if tries = 2000 then raise; end if;
      perform pg_sleep(0.1);
    end;
  end loop;
  perform set_config('lock_timeout', '0', true);
end $do$;

insert into usage_merged
select partition, 0, 0 from consumer_offset
where consumer_group = 'usage-aggregator' and topic = 'license.usage.v1';
analyze usage_merged;

-- Takes what is pending of some partitions into `merging`, and moves their marks behind it. Answers how
-- many rows. Flushes of a partition follow one another by its offset: a snapshot that sees an offset
-- sees every row of before it. So a later statement deletes all rows of before an offset that was read
-- first. A mark is moved by who holds its row, and the offset is not set back meanwhile
-- (usage_merged_reset); a row that somebody else holds is not waited for, and that mark stays.
create function usage_merging_take(owned int[]) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  starts usage_merged[];
  held int[];
  ends usage_merged[];
  moved bigint;
begin
  select array_agg(
      (u.partition, coalesce(m.log_epoch, 0), coalesce(m.next_offset, 0))::usage_merged)
    into starts
  from unnest(owned) u(partition) left join usage_merged m on m.partition = u.partition;
  if not exists (
    select from unnest(starts) s, lateral (
      select from only usage_pending p where p.partition = s.partition
        and (p.log_epoch, p.first_offset) >= (s.log_epoch, s.next_offset) limit 1) p)
  then return 0; end if;

  select array_agg(m.partition) into held from (
    select partition from usage_merged where partition = any (owned) for update skip locked) m;
  select array_agg((o.partition, o.log_epoch, o.next_offset)::usage_merged) into ends
  from consumer_offset o
  where o.consumer_group = 'usage-aggregator' and o.topic = 'license.usage.v1'
    and o.partition = any (held);
  create temp table if not exists merging (like usage_pending) on commit delete rows;
  if pg_relation_size('usage_pending') <= 64 << 20 then
    -- Most of a small table is what is taken, and walking over it costs less than looking it up.
    with taken as (
      delete from only usage_pending where partition = any (owned) returning *
    ) insert into merging select * from taken;
    get diagnostics moved = row_count;
  else
    -- Each partition is looked up by itself, whatever the planner takes the table for.
    with taken as (
      delete from only usage_pending where ctid = any (array(
        select p.place from unnest(starts) s, lateral (
          select q.ctid as place from only usage_pending q where q.partition = s.partition
            and (q.log_epoch, q.first_offset) >= (s.log_epoch, s.next_offset) offset 0) p))
      returning *
    ) insert into merging select * from taken;
    get diagnostics moved = row_count;
  end if;
  update usage_merged m set log_epoch = e.log_epoch, next_offset = e.next_offset
  from unnest(ends) e
  where m.partition = e.partition and (m.log_epoch, m.next_offset) < (e.log_epoch, e.next_offset);
  return moved;
end $$;

-- Takes what is pending of some partitions, in one transaction, so that every reader sees each event
-- once: pending before, merged after. Large merges append, small ones write the hour and day rows.
create or replace function usage_merge(owned int[], isolate boolean default false) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  moved bigint;
begin
  perform pg_advisory_xact_lock_shared(limit_lock_key());
  moved := usage_merging_take(owned);
  if moved = 0 then return 0; end if;
  if isolate then
    perform usage_merging_isolate();
    perform usage_merging_settle();
  elsif usage_merging_appends(moved) then
    perform usage_merging_append();
  else
    perform usage_merging_settle();
  end if;
  perform usage_merging_count();
  return moved;
end $$;

-- Closes what `closing` holds. Answers how many periods. Call it once in a transaction.
create or replace function usage_close_chosen(of_close bigint) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  made bigint;
begin
  with taken as (
    delete from only usage_pending where ctid = any (array(
      select p.place from usage_unmerged p join closing c on c.license_id = p.license_id
      where p.hour < c.boundary::timestamp at time zone 'UTC'))
    returning *
  ) insert into merging select * from taken;
  if found then
    perform usage_merging_isolate();
    perform usage_merging_append();
    perform usage_merging_count();
    delete from merging;
  end if;
  -- What is appended goes into the days that the periods are added up from. It is found by the index,
  -- whatever the planner guesses.
  with taken as (
    delete from usage_appended where ctid = any (array(
      select a.place from closing c, lateral (
        select u.ctid as place from usage_appended u where u.license_id = c.license_id
          and u.hour < c.boundary::timestamp at time zone 'UTC' offset 0) a))
    returning *
  ) insert into merging select * from taken;
  if found then perform usage_merging_settle(); end if;

  with interval_of as materialized (
    select b.license_id, b.effective_from, b.anchor_day,
      lead(b.effective_from) over (partition by b.license_id order by b.effective_from) as until
    from closing c join license_billing_anchor b on b.license_id = c.license_id
  ), covering as (
    select * from interval_of
    union all
    select c.license_id, '-infinity', 1, min(i.effective_from)
    from closing c left join interval_of i on i.license_id = c.license_id group by c.license_id
    having min(i.effective_from) is distinct from '-infinity'
  )
  insert into closing_period
  select c.license_id, d.meter, d.first_day, d.end_day, d.quantity, d.event_count
  from closing c join covering b on b.license_id = c.license_id, lateral (
    select u.meter, greatest(last_anchor(u.day, b.anchor_day), b.effective_from) as first_day,
      least(next_anchor(u.day, b.anchor_day), b.until) as end_day,
      sum(u.quantity)::bigint as quantity, sum(u.event_count)::bigint as event_count
    from usage_day u
    where u.license_id = c.license_id and u.day >= greatest(c.closed_from, b.effective_from)
      and u.day < least(c.boundary, b.until) and (c.meter is null or u.meter = c.meter)
    group by 1, 2, 3 offset 0) d;
  -- What was closed alone before.
  delete from closing_period p using usage_period_closed x
  where x.license_id = p.license_id and x.meter = p.meter and x.period_start = p.period_start;

  -- What was late goes on the invoices that are closed now.
  insert into closing_late
  select t.license_id, t.meter, t.period_start, n.invoiced, t.quantity - t.recorded_quantity,
    t.event_count - t.recorded_event_count
  from closing c join usage_late t on t.license_id = c.license_id
    and (t.quantity <> t.recorded_quantity or t.event_count <> t.recorded_event_count)
    and (c.meter is null or t.meter = c.meter),
    lateral (select next_open_period(t.license_id, t.meter, t.period_end) as invoiced offset 0) n
  where n.invoiced >= c.closed_from and n.invoiced < c.boundary;
  insert into closing_period
  select a.license_id, a.meter, p.first_day, p.end_day, 0, 0
  from (
    select license_id, meter, invoiced from closing_late
    union
    select e.license_id, e.meter, e.invoiced_period_start
    from closing c join usage_adjustment_entry e on e.license_id = c.license_id
      and e.invoiced_period_start >= c.closed_from and e.invoiced_period_start < c.boundary
      and (c.meter is null or e.meter = c.meter)
  ) a, period_of(a.license_id, a.invoiced) p
  where not exists (
    select from usage_period_closed x where x.license_id = a.license_id and x.meter = a.meter
      and x.period_start <= a.invoiced and a.invoiced < x.period_end)
  on conflict do nothing;

  insert into usage_period_closed (license_id, meter, period_start, period_end, quantity,
    event_count, included, overage, customer_id, closed_at, close_id)
  select p.license_id, p.meter, p.period_start, p.period_end, p.quantity, p.event_count, l.quantity,
    case when l.quantity is null then 0 else least(greatest(p.quantity - l.quantity + coalesce((
      select sum(e.quantity) from usage_adjustment_entry e
      where e.license_id = p.license_id and e.meter = p.meter and e.kind = 'manual'
        and e.applies_to_period_start >= p.period_start
        and e.applies_to_period_start < p.period_end), 0), 0), 9000000000000000000) end,
    c.customer_id, now(), of_close
  from closing_period p join closing c on c.license_id = p.license_id
  left join license_limit l on l.license_id = p.license_id and l.meter = p.meter
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

-- Closes the periods that end up to a day of the next licenses, in the order of bytes. Answers the
-- last of them, null behind the last, and how many periods were closed. One transaction a call, so
-- that merges run between two: a call that is cut off closes nothing of its licenses.
create or replace function usage_close_next(
  of_close bigint, after_license text, through date, of_customer text, most int
) returns table (last_license text, closed bigint)
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
declare
  today date := (now() at time zone 'UTC')::date;
begin
  perform usage_close_lock();
  with candidate as materialized (
    select u.license_id from (
      (select l.license_id from license l where l.license_id > after_license collate "C"
        and (of_customer is null or l.customer_id = of_customer) order by 1 limit most)
      union
      (select distinct t.license_id from usage_license_period t
        where t.license_id > after_license collate "C" and of_customer is null order by 1 limit most)
      union
      (select distinct t.license_id from usage_delta t
        where t.license_id > after_license collate "C" and of_customer is null order by 1 limit most)
      union
      (select distinct t.license_id from usage_waiting t
        where t.license_id > after_license collate "C" and of_customer is null order by 1 limit most)
      union
      -- Until the totals of older days are made.
      (select distinct t.license_id from usage_day t
        where t.license_id > after_license collate "C" and of_customer is null
          and not (select is_complete from usage_total_state) order by 1 limit most)
    ) u order by 1 limit most
  ), chosen as (
    insert into closing (license_id, customer_id, closed_from, boundary)
    select x.license_id, l.customer_id, coalesce(c.closed_through, '-infinity'), p.first_day
    from candidate x left join license l on l.license_id = x.license_id
    left join license_closing c on c.license_id = x.license_id,
      period_of(x.license_id, least(through, today)) p
    where p.first_day > coalesce(c.closed_through, '-infinity')
  )
  select max(license_id) into last_license from candidate;
  closed := case when exists (select from closing) then usage_close_chosen(of_close) else 0 end;
  return next;
end $$;

-- A license's minutes in [from_time, to_time), as `usage_by_minute` shows them. Only the hours that hold them are read.
create or replace function usage_minutes(license text, from_time timestamptz, to_time timestamptz)
returns table (meter text, bucket_start timestamptz, quantity bigint, event_count bigint)
language sql stable parallel safe as $$
  select u.meter, u.hour + make_interval(mins => m.minute), m.quantity, m.event_count
  from (
    select p.meter, p.hour, sum(p.event_count) as all_events,
      string_agg(nullif(p.minutes, ''), ',') as minutes
    from (
      select h.meter, h.hour, h.event_count, h.minutes from usage_hour h
      where h.license_id = license and h.hour > from_time - interval '1 hour' and h.hour < to_time
      union all
      select w.meter, w.hour, w.event_count, w.minutes from usage_waiting w
      where w.license_id = license and w.hour > from_time - interval '1 hour' and w.hour < to_time
    ) p group by 1, 2
  ) u, lateral (
    select (e->>0)::int as minute, sum((e->>1)::bigint)::bigint as quantity,
      sum((e->>2)::bigint)::bigint as event_count, sum(sum((e->>2)::bigint)) over () as all_events
    from json_array_elements(('[' || u.minutes || ']')::json) e group by 1
  ) m
  where m.all_events = u.all_events and u.hour + make_interval(mins => m.minute) >= from_time
    and u.hour + make_interval(mins => m.minute) < to_time
$$;

-- The totals of ten minutes by customer and meter, and by meter alone (an empty customer).
create or replace function usage_watch_totals(slot timestamptz)
returns table (customer_id text, meter text, quantity numeric) language sql stable as $$
  with parts as (
    select license_id, meter, minutes from usage_hour where hour = date_trunc('hour', slot, 'UTC')
    union all
    select license_id, meter, minutes from usage_waiting where hour = date_trunc('hour', slot, 'UTC')
  ), licenses as (
    select p.license_id, p.meter, sum((e->>1)::numeric) as quantity
    from parts p, json_array_elements(('[' || p.minutes || ']')::json) e
    where (e->>0)::int >= extract(minute from slot)
      and (e->>0)::int < extract(minute from slot) + 10
    group by 1, 2
  )
  select case when grouping(l.customer_id) = 1 then '' else l.customer_id end collate "C",
    u.meter, sum(u.quantity)
  from licenses u left join license l on l.license_id = u.license_id
  group by grouping sets ((l.customer_id, u.meter), (u.meter))
$$;

create or replace function customer_days_by_days(customer text, from_day date, to_day date)
returns table (meter text, day date, quantity numeric, event_count bigint)
language sql stable parallel safe as $$
  select u.meter, u.day, sum(u.quantity), sum(u.event_count)::bigint
  from (
    select d.meter, d.day, d.quantity, d.event_count
    from license l, lateral (
      select d.meter, d.day, d.quantity, d.event_count from usage_day d
      where d.license_id = l.license_id and d.day >= from_day and d.day < to_day offset 0) d
    where l.customer_id = customer
    union all
    select p.meter, (p.hour at time zone 'UTC')::date, p.quantity, p.event_count
    from usage_waiting p join license l on l.license_id = p.license_id
    where l.customer_id = customer and (p.hour at time zone 'UTC')::date >= from_day
      and (p.hour at time zone 'UTC')::date < to_day
  ) u group by 1, 2
$$;

create or replace function periods_of_day_by_days(on_day date)
returns table (meter text, quantity numeric, event_count bigint)
language sql stable parallel safe as $$
  select u.meter, sum(u.quantity), sum(u.event_count)::bigint
  from (
    select d.meter, d.quantity, d.event_count
    from (
      select d.license_id, d.meter, d.day, d.quantity, d.event_count from usage_day d
      where d.day > on_day - 31 and d.day < on_day + 31
      union all
      select p.license_id, p.meter, (p.hour at time zone 'UTC')::date, p.quantity, p.event_count
      from usage_waiting p
    ) d
    left join billing_interval b on b.license_id = d.license_id
      and b.effective_from <= d.day and (d.day < b.until or b.until is null)
    where greatest(last_anchor(d.day, coalesce(b.anchor_day, 1)), b.effective_from) <= on_day
      and least(next_anchor(d.day, coalesce(b.anchor_day, 1)), b.until) > on_day
    union all
    select t.meter, -t.quantity, -t.event_count from usage_late_total t
    where t.period_start <= on_day and t.period_end > on_day
  ) u group by 1
$$;

-- What a license used of a meter in a period by domain; of a closed period without what is late.
-- Where a late event's domain was folded into `(other)`, it is taken off there.
create or replace function period_domains(license text, of_meter text, start date, ending date)
returns table (domain text, quantity bigint, event_count bigint)
language sql stable as $$
  with late as (
    select e->>1 as value, sum((e->>2)::bigint) as q, sum((e->>3)::bigint) as n
    from (
      select t.dimensions from usage_late t where t.license_id = license and t.meter = of_meter
        and t.period_start = start and t.dimensions <> ''
      union all
      select p.dimensions from usage_unmerged p
      where p.license_id = license and p.meter = of_meter and p.dimensions <> ''
        and p.hour >= start::timestamp at time zone 'UTC'
        and p.hour < ending::timestamp at time zone 'UTC'
        and exists (
          select from usage_late_pending l where l.license_id = license and l.meter = of_meter
            and l.period_start = start)
    ) d, json_array_elements(('[' || d.dimensions || ']')::json) e
    where e->>0 = 'domain' group by 1
  ), named as (
    select d.value, sum(d.quantity) as q, sum(d.event_count) as n from usage_by_dimension_day d
    where d.license_id = license and d.meter = of_meter and d.dimension = 'domain'
      and d.bucket_start >= start::timestamp at time zone 'UTC'
      and d.bucket_start < ending::timestamp at time zone 'UTC'
    group by 1
  )
  select u.value, sum(u.q)::bigint, sum(u.n)::bigint
  from (
    select value, q, n from named
    union all
    select coalesce(m.value, '(other)'), -l.q, -l.n from late l left join named m using (value)
  ) u group by 1 having sum(u.q) <> 0 or sum(u.n) <> 0
$$;
