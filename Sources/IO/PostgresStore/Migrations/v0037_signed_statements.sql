-- What a closed statement shows stays as it was at the close.
--
-- - Late events changed its domains if their day had more than 200 of them, and a compaction of a day
--   put domains together that had been shown before. The first late event of a closed period now keeps
--   what the period shows (usage_late.closed_domains), and a name that a day has shown stays.
-- - A customer's new name changed statements that were signed, and so could a change of the license's
--   domains. Closed rows have both as they were at the close.
-- - Domains that a wildcard covers, and bound domains in other spellings, became `(other)`.
-- - billing_usage_by_period gave closed periods of a license that moved to its new customer.
-- - An adjustment could be for a period long before the license.

update schema_version set version = 37;

-- The values of a license's day, at most 200 for each dimension; the rest becomes `(other)`. Bound
-- domains come first and are never put together: neither the license's domains, in any spelling,
-- nor up to 200 domains that its wildcards cover. What stands before `(other)` was named when the
-- text was compacted, and stays named.
create or replace function usage_dimensions_capped(parts text, bound text[])
returns table (dimension text, value text, quantity bigint, event_count bigint)
language sql immutable parallel safe as $$
  with summed as materialized (
    select e->>0 as dimension, e->>1 as value, sum((e->>2)::bigint) as quantity,
      sum((e->>3)::bigint) as events, min(place) as place
    from json_array_elements(('[' || parts || ']')::json) with ordinality as x(e, place) group by 1, 2
  ), size as materialized (
    select count(*) as names from summed
  ), wildcard as materialized (
    select substr(b, 2) as suffix from unnest(bound) b where b like '*.%'
  ), spelled as materialized (
    -- Domains are compared without case, port and trailing dot.
    select *, rtrim(split_part(lower(value collate "C"), ':', 1), '.') as name from summed
    where (select names from size) > 200
  ), told as materialized (
    select dimension, value, quantity, events, place, value = '(other)' as is_other,
      -- 2: one of the license's domains, 1: covered by a wildcard.
      case when dimension <> 'domain' then 0 when name = any (bound) then 2
        when exists (
          select from wildcard w where length(name) > length(w.suffix)
            and right(name, length(w.suffix)) = w.suffix) then 1
        else 0 end as binding,
      coalesce(place < min(place) filter (where value = '(other)') over (partition by dimension),
        false) as is_stored
    from spelled
  ), covered as (
    select value, row_number() over (order by is_stored desc, place) as rank from told
    where binding = 1
  ), ranked as (
    select *, row_number() over (partition by dimension, is_other
      order by is_stored desc, binding > 0 desc, place) as rank
    from told
  )
  select dimension, value, quantity::bigint, events::bigint from summed
  where (select names from size) <= 200
  union all
  select dimension, case when rank <= 200 or (is_stored and rank <= 400) or binding = 2
      or (binding = 1 and value in (select c.value from covered c where c.rank <= 200))
    then value else '(other)' end,
    sum(quantity)::bigint, sum(events)::bigint
  from ranked group by 1, 2 having sum(quantity) <> 0 or sum(events) <> 0
$$;

-- As usage_dimensions_capped was before schema 37. Statements of periods that were closed before
-- then were signed with these values.
create function usage_dimensions_capped_before(parts text, bound text[])
returns table (dimension text, value text, quantity bigint, event_count bigint)
language sql immutable parallel safe as $$
  with parsed as (
    select e->>0 as dimension, e->>1 as value, (e->>2)::bigint as quantity, (e->>3)::bigint as events, place
    from json_array_elements(('[' || parts || ']')::json) with ordinality as x(e, place)
  ), summed as (
    select dimension, value, sum(quantity) as quantity, sum(events) as events, min(place) as place
    from parsed group by 1, 2
  ), ranked as (
    select *, row_number() over (
      partition by dimension
      order by value = '(other)' desc, dimension = 'domain' and value = any (bound) desc, place) as rank
    from summed
  )
  select dimension, case when rank > 200 then '(other)' else value end,
    sum(quantity)::bigint, sum(events)::bigint
  from ranked group by 1, 2
$$;

-- The capped values as text. `(other)` comes last, so that whatever stands before it stays named.
-- If a dimension is full, `(other)` is there even if it is 0.
create or replace function usage_dimensions_compact(parts text, bound text[]) returns text
language sql immutable parallel safe as $$
  with capped as materialized (
    select * from usage_dimensions_capped(parts, bound)
  )
  select coalesce(string_agg(json_build_array(dimension, value, quantity, event_count)::text, ','
    order by value = '(other)', quantity desc, value), '')
  from (
    select dimension, value, quantity, event_count from capped
    union all
    select dimension, '(other)', 0, 0 from capped where (select count(*) from capped) >= 200
    group by 1 having count(*) >= 200 and not bool_or(value = '(other)')
  ) c
$$;

-- Keeps what closed periods show by domain, before `merging` adds the first late usage to their days.
-- It runs before the rows themselves are written. A concurrent merge of the same period sees the
-- same days and keeps the same.
create function usage_closed_domains_keep() returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  -- Nearly every merge ends here, because its rows are younger than everything that is closed.
  if not exists (
    select from merging m where m.hour < (
      select max(frozen_through)::timestamp at time zone 'UTC' from license_closing))
  then return; end if;
  with wanted as materialized (
    select distinct x.license_id, x.meter, x.period_start, x.period_end, x.bound_domains,
      x.is_late, x.bound_domains is null or x.is_late as is_older
    from (
      select distinct license_id, meter, (hour at time zone 'UTC')::date as day from merging
    ) d
    join license_closing c on c.license_id = d.license_id and d.day < c.frozen_through, lateral (
      select p.*, k.license_id is not null as is_late, k.closed_domains
      from usage_period_closed p left join usage_late k using (license_id, meter, period_start)
      where p.license_id = d.license_id and p.meter = d.meter
        and p.period_start <= d.day and d.day < p.period_end offset 0) x
    where x.closed_domains is null
  ), told as (
    -- As period_domains does, but for all periods at once: a call for each takes six times as long.
    select w.license_id, w.meter, w.period_start, c.value, sum(c.quantity)::bigint as quantity,
      sum(c.event_count)::bigint as event_count
    from wanted w, lateral (
      select * from period_closed_days(w.license_id, w.meter, w.period_start, w.period_end) offset 0) d,
      usage_dimensions_capped(d.parts, w.bound_domains) c
    where not w.is_older and c.dimension = 'domain'
    group by 1, 2, 3, 4 having sum(c.quantity) <> 0 or sum(c.event_count) <> 0
    union all
    select w.license_id, w.meter, w.period_start, d.domain, d.quantity, d.event_count
    from (select * from wanted where is_older) w,
      period_domains(w.license_id, w.meter, w.period_start, w.period_end) d
  ), shown as materialized (
    select w.license_id, w.meter, w.period_start, w.period_end, w.is_late,
      coalesce(t.domains, '') as domains
    from wanted w left join (
      select license_id, meter, period_start,
        string_agg(json_build_array(value, quantity, event_count)::text, ','
          order by quantity desc, value) as domains
      from told group by 1, 2, 3
    ) t using (license_id, meter, period_start)
  ), completed as (
    update usage_late t set closed_domains = s.domains from shown s
    where s.is_late and t.closed_domains is null and t.license_id = s.license_id
      and t.meter = s.meter and t.period_start = s.period_start
  )
  -- A row that another merge has made meanwhile is not locked, because merges lock rows of hours
  -- before those of usage_late.
  insert into usage_late (license_id, meter, period_start, period_end, quantity, event_count,
    dimensions, closed_domains)
  select license_id, meter, period_start, period_end, 0, 0, '', domains
  from shown where not is_late order by 1, 2, 3 on conflict do nothing;
end $$;

-- Counts usage of closed periods in `merging` as late. It runs in the merge's transaction, and the
-- merge's lock keeps every close out. Rows are written in the order of their keys.
create or replace function usage_late_count() returns void language plpgsql as $$
begin
  -- Nearly every merge ends here, because its rows are younger than everything that is closed.
  if not exists (
    select from merging m where m.hour < (
      select max(frozen_through)::timestamp at time zone 'UTC' from license_closing))
  then return; end if;
  create temp table if not exists merging_late (
    license_id text collate "C" not null, meter text collate "C" not null,
    period_start date not null, period_end date not null, quantity bigint not null,
    event_count bigint not null, dimensions text not null) on commit delete rows;
  insert into merging_late
  select d.license_id, d.meter, p.first_day, p.end_day, sum(d.quantity)::bigint,
    sum(d.event_count)::bigint, coalesce(string_agg(d.dimensions, ','), '')
  from (
    select license_id, meter, (hour at time zone 'UTC')::date as day, sum(quantity) as quantity,
      sum(event_count) as event_count, string_agg(nullif(dimensions, ''), ',') as dimensions
    from merging group by 1, 2, 3
  ) d
  join license_closing c on c.license_id = d.license_id and d.day < c.frozen_through,
    period_of(d.license_id, d.day) p
  where d.day < c.closed_through or exists (
    select from usage_period_closed x where x.license_id = d.license_id and x.meter = d.meter
      and x.period_start <= d.day and d.day < x.period_end)
  group by 1, 2, 3, 4;
  if not found then return; end if;
  -- These periods had no usage when the license was closed, so they have no row yet.
  insert into usage_period_closed (license_id, meter, period_start, period_end, quantity,
    event_count, included, overage, customer_id, closed_at, close_id, bound_domains)
  select m.license_id, m.meter, m.period_start, m.period_end, 0, 0, l.quantity, 0, e.customer_id,
    c.closed_at, c.close_id, '{}'
  from merging_late m join license_closing c on c.license_id = m.license_id
  left join license e on e.license_id = m.license_id
  left join license_limit l on l.license_id = m.license_id and l.meter = m.meter
  order by 1, 2, 3 on conflict do nothing;
  insert into usage_late as t (license_id, meter, period_start, period_end, quantity, event_count,
    dimensions, closed_domains)
  select m.license_id, m.meter, m.period_start, m.period_end, m.quantity, m.event_count,
    m.dimensions,
    -- It showed nothing.
    case when exists (
      select from usage_period_closed x where x.license_id = m.license_id and x.meter = m.meter
        and x.period_start = m.period_start and x.quantity = 0 and x.event_count = 0)
    then '' end
  from merging_late m order by 1, 2, 3
  on conflict (license_id, meter, period_start) do update set
    quantity = t.quantity + excluded.quantity, event_count = t.event_count + excluded.event_count,
    dimensions = case when t.closed_domains is not null then t.dimensions
      when length(t.dimensions) > greatest(1200, 2 * t.dimensions_compacted)
      then usage_dimensions_compact(concat_ws(',', nullif(t.dimensions, ''),
        nullif(excluded.dimensions, '')),
        (select domains from license l where l.license_id = t.license_id))
      else concat_ws(',', nullif(t.dimensions, ''), nullif(excluded.dimensions, '')) end,
    dimensions_compacted = case when length(t.dimensions) > greatest(1200, 2 * t.dimensions_compacted)
      then least(length(t.dimensions) / 2, 40000) else t.dimensions_compacted end,
    since = case when t.quantity = t.recorded_quantity and t.event_count = t.recorded_event_count
      then now() else t.since end;
end $$;

-- Takes the pending rows of some partitions in one transaction, so that every reader sees each
-- event once: pending before it, and merged after it. Large merges append, and small ones write the
-- hour and day rows.
create or replace function usage_merge(owned int[], isolate boolean default false) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  moved bigint;
begin
  perform pg_advisory_xact_lock_shared(limit_lock_key());
  moved := usage_merging_take(owned);
  if moved = 0 then return 0; end if;
  if isolate then perform usage_merging_isolate(); end if;
  perform usage_closed_domains_keep();
  if isolate then
    if pg_try_advisory_xact_lock_shared(usage_combine_lock_key()) then
      perform usage_merging_settle();
    else
      perform usage_merging_append();
    end if;
  elsif usage_merging_appends(moved) then
    perform usage_merging_append();
  else
    perform usage_merging_settle();
  end if;
  perform usage_merging_count();
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
  -- This lock comes before the one that merges wait for. Mostly nothing is appended, and then the
  -- close does not wait for combining.
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

-- Records an adjustment, or says why not. The results are `recorded` and `repeated` with the
-- adjustment's id, `idempotency_mismatch`, `not_a_period_start` with the first day of the period
-- that contains the day, `not_begun`, `before_first_period` with the first day of the license's first
-- period, and `unknown_license`. The adjustment goes on the invoice of its own period while that is
-- open.
create or replace function usage_adjust(
  license text, of_meter text, applies_to date, of_quantity bigint, events bigint, because text,
  by_whom text, key text
) returns table (outcome text, detail text)
language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  period record;
  first_start date;
begin
  -- This waits for a running close. Either the close has seen the adjustment, or the adjustment
  -- sees the close.
  perform pg_advisory_xact_lock_shared(close_lock_key());
  select * into period from period_of(license, applies_to);
  if period.first_day <> applies_to then
    return query select 'not_a_period_start', period.first_day::text; return;
  end if;
  if applies_to > (now() at time zone 'UTC')::date then
    return query select 'not_begun', applies_to::text; return;
  end if;
  if not exists (select from license l where l.license_id = usage_adjust.license)
    and not exists (select from usage_by_day d where d.license_id = usage_adjust.license)
  then return query select 'unknown_license', null; return; end if;
  -- Nothing can be owed for a time before a license. Usage that came before it may be corrected.
  select p.first_day into first_start
  from (
    select (least(l.issued_at, l.created_at) at time zone 'UTC')::date as day from license l
    where l.license_id = usage_adjust.license
    union all
    select (min(d.bucket_start) at time zone 'UTC')::date from usage_by_day d
    where d.license_id = usage_adjust.license
      and not exists (select from license l where l.license_id = usage_adjust.license)
  ) f, period_of(license, f.day) p where f.day is not null;
  if applies_to < first_start
    and not exists (
      select from usage_by_day d where d.license_id = usage_adjust.license
        and d.bucket_start >= applies_to::timestamp at time zone 'UTC'
        and d.bucket_start < period.end_day::timestamp at time zone 'UTC')
    and not exists (
      select from usage_period_closed x where x.license_id = usage_adjust.license
        and x.period_start <= applies_to and applies_to < x.period_end)
  then
    return query select 'before_first_period', first_start::text; return;
  end if;
  return query select * from usage_adjustment_add(license, of_meter, applies_to, period.end_day,
    of_quantity, events, because, by_whom, key, null);
end $$;

-- Changing a table or a view waits for its readers, and other readers would queue behind. So the lock is
-- given up after a moment and tried again.
do $do$
declare
  tries int := 0;
begin
  perform set_config('lock_timeout', '100ms', true);
  loop
    tries := tries + 1;
    begin
      alter table usage_late add column closed_domains text;
      alter table usage_period_closed add column customer_name text, add column bound_domains text[];
      create or replace view billing_usage_by_period as
      select u.customer_id, u.license_id, u.meter, u.period_start, u.period_end, u.status, u.quantity,
        u.event_count, u.included, u.overage,
        (select m.quantity from license_limit m where m.license_id = u.license_id and m.meter = u.meter)
          as limit_quantity,
        u.closed_at, u.period_id
      from (
        select x.customer_id, x.license_id, x.meter, x.period_start::timestamp at time zone 'UTC' as period_start,
          x.period_end::timestamp at time zone 'UTC' as period_end, 'closed' as status, x.quantity,
          x.event_count, x.included, x.overage, x.closed_at,
          x.license_id || ':' || x.meter || ':' || to_char(x.period_start, 'YYYY-MM-DD') as period_id
        from usage_period_closed x
        -- The others are in billing_usage_unregistered.
        where x.customer_id is not null
          or exists (select from license l where l.license_id = x.license_id)
        union all
        select l.customer_id, l.license_id, p.meter, p.period_start, p.period_end,
          case when p.period_start > now() then 'future' when p.period_end > now() then 'current'
            else 'past' end,
          p.quantity, p.event_count, p.included, p.overage, p.closed_at, p.period_id
        from license l, lateral (
          -- OFFSET 0 keeps this apart, so that the sums are computed for each license separately.
          select * from usage_by_period b where b.license_id = l.license_id and b.closed_at is null
          offset 0) p
      ) u;
      exit;
    exception when lock_not_available then
      if tries = 2000 then raise; end if;
      perform pg_sleep(0.1);
    end;
  end loop;
  perform set_config('lock_timeout', '0', true);
end $do$;

-- The parts by domain and feature of a closed period's days, as text for usage_dimensions_capped.
-- Nothing is appended before the first late event, unless it does not fit into its day.
create function period_closed_days(license text, of_meter text, start date, ending date)
returns table (day date, parts text)
language sql stable as $$
  select p.day, string_agg(p.dimensions, ',' order by p.is_appended)
  from (
    select d.day, d.dimensions, false as is_appended from usage_day d
    where d.license_id = license and d.meter = of_meter and d.day >= start and d.day < ending
      and d.dimensions <> ''
    union all
    select (a.hour at time zone 'UTC')::date, a.dimensions, true from usage_appended a
    where a.license_id = license and a.meter = of_meter
      and a.hour >= start::timestamp at time zone 'UTC'
      and a.hour < ending::timestamp at time zone 'UTC' and a.dimensions <> ''
  ) p group by 1
$$;

-- A license's usage of a meter in a period, by domain. A closed period shows what was counted at its
-- close: what usage_closed_domains_keep kept before the first late event, and else what is in its
-- days. Whatever of a closed period is pending is late.
create or replace function period_domains(license text, of_meter text, start date, ending date)
returns table (domain text, quantity bigint, event_count bigint)
language sql stable as $$
  with closed as materialized (
    select t.closed_domains, t.dimensions as late, t.closed_domains is not null as is_kept,
      -- Closed, or merged as late, by a schema before 37.
      t.closed_domains is null and (x.bound_domains is null or t.license_id is not null) as is_older,
      x.bound_domains
    from usage_period_closed x left join usage_late t using (license_id, meter, period_start)
    where x.license_id = license and x.meter = of_meter and x.period_start = start
  ), day as materialized (
    select * from period_closed_days(license, of_meter, start, ending)
    where exists (select from closed where not is_kept)
  ), before as materialized (
    select c.value, sum(c.quantity) as q, sum(c.event_count) as n
    from day d, usage_dimensions_capped_before(d.parts,
      (select l.domains from license l where l.license_id = license)) c
    where c.dimension = 'domain' and exists (select from closed where is_older)
    group by 1
  ), late as (
    -- What a name has not had was in `(other)`.
    select l.value, least(l.q, coalesce(b.q, 0)) as q, least(l.n, coalesce(b.n, 0)) as n,
      l.q as whole_q, l.n as whole_n
    from (
      select e->>1 as value, sum((e->>2)::bigint) as q, sum((e->>3)::bigint) as n
      from closed c, json_array_elements(('[' || c.late || ']')::json) e
      where c.is_older and c.late <> '' and e->>0 = 'domain' group by 1
    ) l left join before b using (value)
  )
  select d.value, sum(d.quantity)::bigint, sum(d.event_count)::bigint
  from usage_by_dimension_day d
  where d.license_id = license and d.meter = of_meter and d.dimension = 'domain'
    and d.bucket_start >= start::timestamp at time zone 'UTC'
    and d.bucket_start < ending::timestamp at time zone 'UTC' and not exists (select from closed)
  group by 1 having sum(d.quantity) <> 0 or sum(d.event_count) <> 0
  union all
  select e->>0, (e->>1)::bigint, (e->>2)::bigint
  from closed c, json_array_elements(('[' || c.closed_domains || ']')::json) e
  where c.is_kept and c.closed_domains <> ''
  union all
  select c.value, sum(c.quantity)::bigint, sum(c.event_count)::bigint
  from closed x, day d, usage_dimensions_capped(d.parts, x.bound_domains) c
  where not x.is_kept and not x.is_older and c.dimension = 'domain'
  group by 1 having sum(c.quantity) <> 0 or sum(c.event_count) <> 0
  union all
  select u.value, sum(u.q)::bigint, sum(u.n)::bigint
  from (
    select value, q, n from before
    union all
    select value, -q, -n from late
    union all
    select '(other)', q - whole_q, n - whole_n from late
  ) u group by 1 having sum(u.q) > 0 or sum(u.n) > 0
$$;
