-- A trace goes with an event from the request to the alert and on to its webhooks.

update schema_version set version = 28;

-- The traces of flushes whose groups may bring a license to a threshold: of each group the last event that had one. Every row belongs
-- to one of usage_pending and is written with it. The merge that takes that one puts the trace into the evidence of the alert that
-- it raises, and deletes the row.
create table usage_trace (
  log_epoch int not null,
  partition int not null,
  license_id text collate "C" not null,
  meter text collate "C" not null,
  -- The last offset of the group.
  log_offset bigint not null,
  traceparent text not null constraint usage_trace_is_a_traceparent check (octet_length(traceparent) = 55)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);

create index usage_trace_by_license on usage_trace (license_id, meter);

-- Deletes the traces of what `merging` holds. Offsets of a partition only grow from flush to flush, so
-- a trace at or below the last offset that is merged belongs to what was merged. What another merge
-- holds is passed over: that one deletes it, or the next.
create function usage_merging_traces() returns void language plpgsql as $$
begin
  if not exists (select from usage_trace) then return; end if;
  delete from usage_trace where ctid = any (array(
    select t.ctid from usage_trace t
    join (select partition, log_epoch, max(last_offset) as last_offset from merging group by 1, 2) m using (partition)
    where t.log_epoch < m.log_epoch or (t.log_epoch = m.log_epoch and t.log_offset <= m.last_offset)
    for update of t skip locked));
end $$;

-- Counts what `merging` holds for the totals, for what is late and for the limits, behind the rows
-- themselves: the limits add those up where they begin anew.
create or replace function usage_merging_count() returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
begin
  insert into usage_delta (license_id, meter, day, quantity, event_count)
  select license_id, meter, (hour at time zone 'UTC')::date, sum(quantity)::bigint,
    sum(event_count)::bigint
  from merging group by 1, 2, 3;
  insert into usage_meter_hour_delta (hour, meter, quantity, event_count)
  select hour, meter, sum(quantity), sum(event_count)::bigint from merging group by 1, 2;
  perform usage_late_count();
  perform limit_states_advance();
  perform usage_merging_traces();
end $$;

-- Adds what `merging` holds to the states of its licenses, and judges those that reach a threshold.
-- Runs in the merge's transaction, behind its day rows; in the order of keys, so that merges never
-- deadlock. States are made for periods that ended up to 45 days ago. A state that is there is added
-- to whatever the event's age, so `used` is the sum of its period's days for as long as it exists.
create or replace function limit_states_advance() returns void language plpgsql as $$
declare
  due record;
begin
  if not exists (select from license_limit) then return; end if;
  create temp table if not exists limit_touched (
    license_id text collate "C" not null, meter text collate "C" not null, day date not null, quantity bigint not null,
    is_counted boolean not null default false) on commit delete rows;
  insert into limit_touched (license_id, meter, day, quantity)
  select license_id, meter, (hour at time zone 'UTC')::date, sum(m.quantity)::bigint
  from merging m join license_limit l using (license_id, meter) group by 1, 2, 3;
  if not found then return; end if;

  with missing as (
    select array_agg(license_id) as licenses, array_agg(meter) as meters, array_agg(day) as days
    from limit_touched t where not exists (
      select from limit_state s where s.license_id = t.license_id and s.meter = t.meter
        and s.period_start <= t.day and t.day < s.period_end)
    -- No period is longer than 31 days.
    and t.day >= (now() at time zone 'UTC')::date - 76
    and (select end_day from period_of(t.license_id, t.day)) >= (now() at time zone 'UTC')::date - 45
  ), made as (
    select m.* from missing, limit_states_make(licenses, meters, days, nextval('limit_version')) m
    where licenses is not null
  )
  -- Their sums were read behind this merge's day rows.
  update limit_touched t set is_counted = true from made m
  where t.license_id = m.license_id and t.meter = m.meter and t.day >= m.period_start and t.day < m.period_end;

  perform from limit_state s join limit_touched t on s.license_id = t.license_id and s.meter = t.meter
    and s.period_start <= t.day and t.day < s.period_end
  order by s.license_id, s.meter, s.period_start for no key update of s;
  update limit_state s set used = s.used + t.quantity
  from (
    select t.license_id, t.meter, s.period_start, sum(t.quantity)::bigint as quantity
    from limit_touched t join limit_state s on s.license_id = t.license_id and s.meter = t.meter
      and s.period_start <= t.day and t.day < s.period_end
    where not t.is_counted group by 1, 2, 3
  ) t where s.license_id = t.license_id and s.meter = t.meter and s.period_start = t.period_start;

  for due in
    select distinct s.license_id, s.meter, s.period_start
    from limit_touched t join limit_state s on s.license_id = t.license_id and s.meter = t.meter
      and s.period_start <= t.day and t.day < s.period_end
    where s.used >= s.next_quantity order by 1, 2, 3
  loop
    perform limit_judge(due.license_id, due.meter, due.period_start, (
      select jsonb_agg(jsonb_strip_nulls(to_jsonb(e) || jsonb_build_object('traceparent', (
        select t.traceparent from usage_trace t
        where t.license_id = due.license_id and t.meter = due.meter and t.log_epoch = e.log_epoch
          and t.partition = e.partition and t.log_offset between e.first_offset and e.last_offset
        order by t.log_offset desc limit 1))))
      from (
        select log_epoch, partition, min(first_offset) as first_offset, max(last_offset) as last_offset
        from merging m where m.license_id = due.license_id and m.meter = due.meter group by 1, 2) e));
  end loop;

  if exists (
    select from limit_touched t join limit_state s on s.license_id = t.license_id and s.meter = t.meter
      and s.period_start <= t.day and t.day < s.period_end
    where s.is_over and s.used - t.quantity < s.limit_quantity)
  then perform pg_notify('limit_state', ''); end if;
end $$;

-- The trace that led to a delivery's alert; null where it has none. A function of its own, because the dispatcher may read no alerts.
-- It is volatile, so that it sees what webhook_claim has seen.
create function webhook_traceparent(delivery bigint) returns text language sql as $$
  select jsonb_path_query_first(a.evidence, '$[*].traceparent') #>> '{}'
  from webhook_delivery d join alert a using (alert_id) where d.delivery_id = delivery
$$;
