-- Faults that a review found. None of them was reported from use.
--
-- - A withdrawn change of the anchor day left the period of a limit short, so alerts of its last days
--   were not raised.
-- - A changed limit was applied to periods that had ended.
-- - Two merges of one partition deleted its rows in different orders and could wait for each other.
-- - A merge read where a partition's rows begin before it held the mark. If an offset was set back just
--   then, new rows could lie before the mark, where nobody reads them.
-- - Two changes of one license's anchors by hand, at the same time, doubled its totals.
-- - The minutes of an hour whose row was dropped, and its hour in billing_usage_by_hour, showed a late
--   event as if it were the whole hour.
-- - A license-day that does not fit stopped the close of its neighbors.

update schema_version set version = 36;

create or replace function license_limits_changed() returns trigger language plpgsql as $$
begin
  perform limit_mark(l.license_id, l.meter) from license_limit l
  where l.license_id = case when tg_op = 'DELETE' then old.license_id else new.license_id end
  order by l.meter;
  return null;
end $$;

-- What counts towards a limit in [first_day, end_day): the days, what is appended and the manual
-- adjustments.
create or replace function limit_used(license text, of_meter text, first_day date, end_day date) returns bigint
language sql stable as $$
  select (coalesce((select sum(d.quantity) from usage_day d where d.license_id = license
      and d.meter = of_meter and d.day >= first_day and d.day < end_day), 0)
    + coalesce((select sum(a.quantity) from usage_appended a where a.license_id = license
      and a.meter = of_meter and a.hour >= first_day::timestamp at time zone 'UTC'
      and a.hour < end_day::timestamp at time zone 'UTC'), 0)
    -- It is bounded, so that the sum fits whatever was recorded.
    + least(greatest(coalesce((select sum(e.quantity) from usage_adjustment_entry e
        where e.license_id = license and e.meter = of_meter and e.kind = 'manual'
          and e.applies_to_period_start >= first_day and e.applies_to_period_start < end_day), 0),
      -4000000000000000000), 4000000000000000000))::bigint
$$;

-- Creates the states that are missing for these days, from what is merged and from the manual
-- adjustments as they are now. Returns the new states.
create or replace function limit_states_make(licenses text[], meters text[], days date[], new_version bigint)
returns table (license_id text, meter text, period_start date, period_end date) language sql as $$
  insert into limit_state as s (license_id, meter, period_start, period_end, limit_quantity, thresholds, used,
    next_quantity, version)
  select w.license_id, w.meter, w.first_day, w.end_day, l.quantity, c.alert_thresholds,
    limit_used(w.license_id, w.meter, w.first_day, w.end_day),
    limit_next_quantity(l.quantity, c.alert_thresholds, -1), new_version
  from (
    select distinct u.license_id, u.meter, p.first_day, p.end_day
    from unnest(licenses, meters, days) u(license_id, meter, day), period_of(u.license_id, u.day) p
  ) w
  join license_limit l on l.license_id = w.license_id and l.meter = w.meter
  join license c on c.license_id = w.license_id
  order by 1, 2, 3
  on conflict do nothing
  returning s.license_id, s.meter, s.period_start, s.period_end
$$;

-- Computes again the states whose license, limit or usage was changed by hand, and judges them.
-- Returns how many.
create or replace function limit_sweep(most int) returns int language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  licenses text[];
  meters text[];
  reached record;
  today date := (now() at time zone 'UTC')::date;
  new_version bigint := nextval('limit_version');
begin
  if not exists (select from limit_change) then return 0; end if;
  perform pg_advisory_xact_lock(limit_lock_key());
  with chosen as (
    select c.license_id, c.meter from limit_change c order by 1, 2 limit most for update skip locked
  ), gone as (
    delete from limit_change c using chosen x where c.license_id = x.license_id and c.meter = x.meter
    returning c.license_id, c.meter
  ) select array_agg(g.license_id), array_agg(g.meter) into licenses, meters
  from (select * from gone order by 1, 2) g;
  if licenses is null then return 0; end if;
  -- A period that has ended keeps its limit and its thresholds: what is sold from today on is not what
  -- was sold then.
  delete from limit_state s using unnest(licenses, meters) u(license_id, meter)
  where s.license_id = u.license_id and s.meter = u.meter and (s.period_end > today
    or not exists (
      select from license_limit l where l.license_id = s.license_id and l.meter = s.meter)
    or not exists (
      select from period_of(s.license_id, s.period_start) p
      where p.first_day = s.period_start and p.end_day = s.period_end));
  update limit_state s set version = new_version,
    used = limit_used(s.license_id, s.meter, s.period_start, s.period_end)
  from unnest(licenses, meters) u(license_id, meter)
  where s.license_id = u.license_id and s.meter = u.meter;
  perform limit_states_make(licenses, meters, array_fill(today, array[cardinality(licenses)]), new_version);
  for reached in
    select s.license_id, s.meter, s.period_start
    from unnest(licenses, meters) u(license_id, meter) join limit_state s on s.license_id = u.license_id and s.meter = u.meter
    where s.used >= s.next_quantity order by 1, 2, 3
  loop
    perform limit_judge(reached.license_id, reached.meter, reached.period_start, '{"cause": "limit or license changed"}');
  end loop;
  perform pg_notify('limit_state', '');
  return cardinality(licenses);
end $$;

-- Removes states of periods to which merges no longer add. If one is needed again, it is computed
-- from the day rows.
create or replace function limit_states_retain() returns bigint language sql as $$
  with old as (
    -- Merges lock states in the order of their keys.
    select license_id, meter, period_start from limit_state
    where period_end < (now() at time zone 'UTC')::date - 45
    order by 1, 2, 3 for update skip locked
  ), gone as (
    delete from limit_state s using old o
    where s.license_id = o.license_id and s.meter = o.meter and s.period_start = o.period_start
    returning 1
  ) select count(*) from gone
$$;

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
  then return 0; end if;

  select array_agg((o.partition, o.log_epoch, o.next_offset)::usage_merged) into ends
  from consumer_offset o
  where o.consumer_group = 'usage-aggregator' and o.topic = 'license.usage.v1'
    and o.partition = any (held);
  create temp table if not exists merging (like usage_pending) on commit delete rows;
  if pg_relation_size('usage_pending') <= 64 << 20 then
    -- Most of a small table is what is taken, and walking over it costs less than looking it up. Rows
    -- are deleted in the order of their places in the table, as below, so that two merges of the same
    -- partition never wait for each other.
    with taken as (
      delete from only usage_pending where ctid = any (array(
        select q.ctid from only usage_pending q where q.partition = any (owned)))
      returning *
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

-- Whether a merge of `merging`, which has `moved` rows, appends them. If it does not, it holds the
-- lock that keeps the combining away, so that neither waits for the other's rows. Raises
-- check_violation if a license's day no longer fits. The caller then tries again and sets that day
-- aside.
create or replace function usage_merging_appends(moved bigint) returns boolean
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  -- A day is looked up only where a row is large: small ones would take millions of merges to fill
  -- what is left free below usage_day_fits, and then usage_combine leaves them where they are.
  if exists (select from merging where quantity >= 1000000000) then
    if exists (select from usage_merging_beyond(1000000000, 100000000000000000)) then
      raise exception 'a license-day no longer fits' using errcode = 'check_violation',
        constraint = 'usage_day_fits', table = 'usage_day';
    end if;
    if exists (select from usage_merging_beyond(1000000000, 90000000000000000)) then
      return not pg_try_advisory_xact_lock_shared(usage_combine_lock_key());
    end if;
  end if;
  if moved >= (select least_rows from usage_append_state) then return true; end if;
  return not pg_try_advisory_xact_lock_shared(usage_combine_lock_key());
end $$;

-- Makes the totals of some licenses' periods from their days, by the anchors as they are now.
create or replace function usage_periods_remake(licenses text[]) returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  if licenses is null then return; end if;
  -- Waits for a fold that read the anchors before the change, and lets none begin until it commits.
  perform pg_advisory_xact_lock_shared(usage_fold_lock_key());
  -- Two changes of one license would not see each other's totals, and both would add them.
  perform from license l where l.license_id = any (licenses) order by l.license_id for no key update;
  delete from usage_license_period p using usage_total_state s
  where p.license_id = any (licenses) and (s.is_complete or p.license_id <= s.made_through);
  perform usage_periods_add(array_agg(f.license_id), array_agg(f.meter), array_agg(f.day),
    array_agg(f.quantity::bigint), array_agg(f.event_count))
  from usage_folded(licenses) f, usage_total_state s
  where s.is_complete or f.license_id collate "C" <= s.made_through;
end $$;

-- A license's minutes in [from_time, to_time), as `usage_by_minute` shows them. It reads only the
-- hours that contain them.
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
      select w.meter, w.hour, w.event_count, w.minutes from usage_waiting_of(array[license]) w
      where w.hour > from_time - interval '1 hour' and w.hour < to_time
    ) p group by 1, 2
  ) u, lateral (
    select (e->>0)::int as minute, sum((e->>1)::bigint)::bigint as quantity,
      sum((e->>2)::bigint)::bigint as event_count, sum(sum((e->>2)::bigint)) over () as all_events
    from json_array_elements(('[' || u.minutes || ']')::json) e group by 1
  ) m
  where m.all_events = u.all_events
    and (u.hour > (select newest_hour_gone from usage_retention)
      or not usage_hour_gone(license, u.meter, u.hour))
    and u.hour + make_interval(mins => m.minute) >= from_time
    and u.hour + make_interval(mins => m.minute) < to_time
$$;

-- Adds the rows of `merging`, which were appended before, to the hour and day rows. What does not fit
-- stays appended, where readers see it as well, and stops nobody else's. The caller holds
-- usage_combine_lock_key().
create or replace function usage_merging_settle_fitting() returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
begin
  perform usage_merging_settle();
exception when check_violation or numeric_value_out_of_range then
  with broken as materialized (
    select * from usage_merging_beyond(-1e30, 100000000000000000)
  ), kept as (
    delete from merging m using broken b where m.license_id = b.license_id
      and m.meter = b.meter and (m.hour at time zone 'UTC')::date = b.day
    returning m.*
  ) insert into usage_appended select * from kept;
  perform usage_merging_settle();
end $$;

-- Adds appended rows to the hour and day rows, for up to about `most` of the next licenses. Returns
-- how many, or 0 if nothing is due or a merge is writing hour and day rows. The walk takes the rows
-- of hours that are over, and earlier those of a key that has many. It takes all rows if nothing
-- was appended for five seconds. usage_fold calls it, and its lock keeps a second walk away. Each
-- call is one transaction, so a call that is cut off has done nothing.
create or replace function usage_combine(most int) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  state usage_append_state;
  appended bigint;
  last_license text collate "C";
  -- The hours before this one are over, but for what comes late.
  present timestamptz := date_trunc('hour', now() - interval '2 minutes', 'UTC');
  -- Rows that usage_merging_settle would append again.
  kept_out tstzrange[];
  moved bigint;
begin
  select * into state from usage_append_state;
  if state.walked_through is null then
    if not exists (select from usage_appended) then return 0; end if;
    select last_value into appended from usage_append_count;
    if appended <> state.seen then
      state.seen_at := now();
      update usage_append_state set seen = appended, seen_at = now();
    end if;
    state.is_whole := state.seen_at < now() - interval '5 seconds';
    if not state.is_whole and state.began >= present
      and appended < state.merges + state.walk_merges
    then return 0; end if;
    state.walked_through := '';
    update usage_append_state set walked_through = '', is_whole = state.is_whole, began = now(),
      merges = appended;
  end if;
  if not pg_try_advisory_xact_lock(usage_combine_lock_key()) then return 0; end if;
  select license_id into last_license from usage_appended where license_id > state.walked_through
  order by license_id offset most - 1 limit 1;
  if last_license is null then
    select max(license_id) into last_license from usage_appended
    where license_id > state.walked_through;
  end if;
  update usage_append_state set walked_through = last_license;
  if last_license is null then return 0; end if;

  kept_out := usage_months_kept_out();
  create temp table if not exists merging (like usage_pending) on commit delete rows;
  with chosen as (
    select ctid as place, hour, count(*) over (partition by license_id, meter, hour) as key_rows
    from usage_appended where license_id > state.walked_through and license_id <= last_license
      and (hour <@ any (kept_out)) is not true
  ), taken as (
    delete from usage_appended where ctid = any (array(
      select place from chosen
      where state.is_whole or hour < present or key_rows >= state.key_rows))
    returning *
  ) insert into merging select * from taken;
  get diagnostics moved = row_count;
  if moved = 0 then return 1; end if;
  perform usage_merging_settle_fitting();
  return moved;
end $$;

-- Closes the periods in `closing` and returns how many. Call it once in a transaction, after
-- usage_close_lock().
create or replace function usage_close_chosen(of_close bigint) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  made bigint;
  state usage_total_state;
begin
  -- Before the lock that merges wait for. Mostly nothing is appended, and then no combining is waited
  -- for.
  if usage_closing_appended() then perform pg_advisory_xact_lock(usage_combine_lock_key()); end if;
  perform pg_advisory_xact_lock(limit_lock_key());
  with taken as (
    delete from only usage_pending where ctid = any (array(
      select p.place from usage_unmerged p join closing c on c.license_id = p.license_id
        and p.hour < c.boundary::timestamp at time zone 'UTC'
      where p.hour < (select max(boundary)::timestamp at time zone 'UTC' from closing)))
    returning *
  ) insert into merging select * from taken;
  if found then
    perform usage_merging_isolate();
    perform usage_merging_append();
    perform usage_merging_count();
    delete from merging;
  end if;
  -- What is appended goes into the days, so that a statement has the same domains for ever.
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

  -- Totals that are made stay made, so both functions are told the same state.
  select * into state from usage_total_state;
  perform usage_closing_by_totals(state.made_through, state.is_complete);
  if not state.is_complete then perform usage_closing_by_days(state.made_through); end if;
  -- What was closed alone before. Here and below, large tables are looked up by their keys, whatever
  -- the planner guesses: a walk over years of closed periods would cost more than the close.
  delete from closing_period p where exists (
    select from usage_period_closed x where x.license_id = p.license_id and x.meter = p.meter
      and x.period_start = p.period_start offset 0);

  -- What was late goes on the invoices that are closed now.
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
    event_count, included, overage, customer_id, closed_at, close_id)
  select p.license_id, p.meter, p.period_start, p.period_end, p.quantity, p.event_count, l.quantity,
    case when l.quantity is null then 0 else least(greatest(p.quantity - l.quantity + coalesce((
      select sum(e.quantity) from usage_adjustment_entry e
      where e.license_id = p.license_id and e.meter = p.meter and e.kind = 'manual'
        and e.applies_to_period_start >= p.period_start
        and e.applies_to_period_start < p.period_end), 0), 0), 9000000000000000000) end,
    c.customer_id, now(), of_close
  from closing_period p join closing c on c.license_id = p.license_id
  left join lateral (
    select i.quantity from license_limit i where i.license_id = p.license_id and i.meter = p.meter
    offset 0) l on true
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
      create or replace trigger license_anchor_changed
        after insert or update or delete on license_billing_anchor for each row
        execute function license_limits_changed();

      create or replace view usage_hour_minutes as
      select u.license_id, u.meter, u.hour, m.minute,
        u.hour + make_interval(mins => m.minute) as bucket_start, m.quantity, m.event_count
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
      where m.all_events = u.all_events
        and (u.hour > (select newest_hour_gone from usage_retention)
          or not usage_hour_gone(u.license_id, u.meter, u.hour));
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
      ) u
      where u.hour > (select newest_hour_gone from usage_retention) or not exists (
        -- Its readers may not call usage_hour_gone.
        select from usage_day d
        where d.license_id = u.license_id and d.meter = u.meter
          and d.day = (u.hour at time zone 'UTC')::date
          and (d.hours_gone >> extract(hour from u.hour at time zone 'UTC')::int) & 1 = 1)
      group by u.customer_id, u.license_id, u.meter, u.hour;
      exit;
    exception when lock_not_available then
      if tries = 2000 then raise; end if;
      perform pg_sleep(0.1);
    end;
  end loop;
  perform set_config('lock_timeout', '0', true);
end $do$;

-- States whose period is not the license's any more are computed again.
do $do$
begin
  perform limit_mark(s.license_id, s.meter) from limit_state s
  where s.period_end > (now() at time zone 'UTC')::date - 31 and not exists (
    select from period_of(s.license_id, s.period_start) p
    where p.first_day = s.period_start and p.end_day = s.period_end)
  order by s.license_id, s.meter;
end $do$;
