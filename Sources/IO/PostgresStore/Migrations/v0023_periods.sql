-- Closing of billing periods, and adjustments.
--
-- A close freezes what a license used of a meter in a period. What arrives later stays in the hour and
-- day rows and is counted apart (usage_late), so at every moment that a reader can see:
--
--   the days of a period = its closed quantity + its late adjustments.
--
-- A merge holds limit_lock_key() shared and adds to usage_late in its own transaction; a close holds
-- that lock alone, and first merges what is pending of the periods that it closes.

update schema_version set version = 23;

-- The tables -------------------------------------------------------------------------------------

-- One row for each time that somebody closed periods.
create table usage_close (
  close_id bigint generated always as identity primary key,
  began_at timestamptz not null default now(),
  -- Null: it runs, or it was cut off. What it closed stays closed; the next close closes the rest.
  finished_at timestamptz,
  closed_by text not null,
  -- Periods that end on this day or before it, UTC.
  ending_before date not null,
  -- Null: of all customers.
  customer_id text,
  -- The one period that was asked for; null: all of them.
  period_id text,
  forced boolean not null default false,
  reason text,
  -- What stood against the close when it began.
  blockers jsonb not null default '[]',
  closed bigint not null default 0,
  already_closed bigint not null default 0,
  constraint usage_close_by_force_has_a_reason check (not forced or reason <> '')
);

-- What was frozen. Rows are added and never changed.
create table usage_period_closed (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  period_start date not null,
  period_end date not null,
  -- Without adjustments: the sum of the period's days when it was closed.
  quantity bigint not null,
  event_count bigint not null,
  -- The license's limit of the meter at the close; null: unlimited.
  included bigint,
  -- What goes beyond it, with the manual adjustments of this period that were recorded before.
  overage bigint not null,
  -- Whose license it was; null: nobody's.
  customer_id text,
  closed_at timestamptz not null,
  -- No reference: a check of each row would double what a close costs.
  close_id bigint not null,
  constraint usage_period_closed_ends_later check (period_start < period_end),
  primary key (license_id, meter, period_start)
);
create index usage_period_closed_by_customer on usage_period_closed (customer_id, period_end);
create index usage_period_closed_by_end on usage_period_closed (period_end);

-- How far the periods of each license are closed. Days before closed_through are closed whatever the
-- meter, also where no row of usage_period_closed stands for them. Periods that were closed alone,
-- for one meter, may lie behind it. No change of an anchor moves anything before frozen_through.
create table license_closing (
  license_id text collate "C" primary key,
  closed_through date not null default '-infinity',
  frozen_through date not null,
  close_id bigint not null,
  closed_at timestamptz not null,
  constraint license_closing_freezes_what_it_closes check (closed_through <= frozen_through)
) with (fillfactor = 70);
create index license_closing_by_end on license_closing (frozen_through);

-- What merges have added to closed periods since their close, and how much of it stands on the
-- invoice of a later period that is closed too (recorded_…, in usage_adjustment_entry).
create table usage_late (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  period_start date not null,
  period_end date not null,
  quantity bigint not null,
  event_count bigint not null,
  recorded_quantity bigint not null default 0,
  recorded_event_count bigint not null default 0,
  -- The parts by domain and feature, as usage_day has them: what a statement leaves out.
  dimensions text not null,
  dimensions_compacted int not null default 0,
  -- When the first of what is not recorded was merged.
  since timestamptz not null default now(),
  primary key (license_id, meter, period_start)
) with (fillfactor = 70);
create index usage_late_open on usage_late (license_id)
  where quantity <> recorded_quantity or event_count <> recorded_event_count;

-- Adjustments that are final. Rows are added and never changed: a mistake gets a counter-entry.
create table usage_adjustment_entry (
  entry bigint generated always as identity primary key,
  adjustment_id text collate "C" not null unique,
  license_id text collate "C" not null,
  meter text collate "C" not null,
  applies_to_period_start date not null,
  invoiced_period_start date not null,
  kind text not null check (kind in ('late', 'manual')),
  quantity bigint not null
    check (quantity between -5000000000000000000 and 5000000000000000000),
  event_count bigint not null,
  reason text not null,
  recorded_by text not null,
  idempotency_key text,
  recorded_at timestamptz not null default now(),
  -- The adjustment that this one takes back.
  reverses text collate "C" unique references usage_adjustment_entry (adjustment_id),
  constraint usage_adjustment_by_hand_is_bounded check (
    kind = 'late' or reverses is not null or quantity between -100000000000000000 and 100000000000000000
      and event_count between -100000000000000000 and 100000000000000000),
  constraint usage_adjustment_by_hand_has_a_reason check (kind = 'late' or reason <> ''),
  constraint usage_adjustment_is_invoiced_not_before_its_period check (
    invoiced_period_start >= applies_to_period_start)
);
create index usage_adjustment_by_license
  on usage_adjustment_entry (license_id, meter, invoiced_period_start);
create unique index usage_adjustment_once on usage_adjustment_entry (recorded_by, idempotency_key)
  where idempotency_key is not null;

create function billing_row_is_final() returns trigger language plpgsql as $$
begin
  raise exception 'rows of % are never changed or deleted', tg_table_name
    using errcode = 'MM003';
end $$;
create trigger usage_period_closed_is_final before update or delete or truncate
  on usage_period_closed for each statement execute function billing_row_is_final();
create trigger usage_adjustment_is_final before update or delete or truncate
  on usage_adjustment_entry for each statement execute function billing_row_is_final();

-- Held alone by closes, and shared by what a close must not overlap: manual adjustments and changes
-- of anchors. Always taken before limit_lock_key().
create function close_lock_key() returns bigint language sql immutable as $$
  select 84960541031
$$;

-- The anchors of what is closed ------------------------------------------------------------------

create function license_anchors_lock() returns trigger language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(close_lock_key());
  return null;
end $$;
create trigger license_anchors_lock before insert or update or delete on license_billing_anchor
  for each statement execute function license_anchors_lock();

-- Closed periods keep their bounds. A license that is registered after periods of it were closed
-- followed the calendar month then, so its first anchor is the first of the month; the anchor that it
-- was registered with begins like any change.
create function license_anchor_guard() returns trigger language plpgsql as $$
declare
  license text collate "C" := case when tg_op = 'DELETE' then old.license_id else new.license_id end;
  frozen date := (select frozen_through from license_closing where license_id = license);
begin
  if frozen is not null then
    if tg_op = 'INSERT' and new.effective_from = '-infinity' and not exists (
      select from license_billing_anchor b where b.license_id = license)
    then
      new.anchor_day := 1;
    elsif tg_op <> 'INSERT' and old.effective_from < frozen
      or tg_op <> 'DELETE' and new.effective_from < frozen
    then
      raise exception 'periods of this license are closed through %: their anchor cannot change',
        frozen using errcode = 'MM003';
    end if;
  end if;
  return case when tg_op = 'DELETE' then old else new end;
end $$;
create trigger license_anchor_guard before insert or update or delete on license_billing_anchor
  for each row execute function license_anchor_guard();

-- What the readers see ---------------------------------------------------------------------------

-- What is pending of closed periods: late, but not in usage_late yet.
create view usage_late_pending as
select p.license_id, p.meter,
  greatest(last_anchor(p.day, coalesce(b.anchor_day, 1)), b.effective_from) as period_start,
  least(next_anchor(p.day, coalesce(b.anchor_day, 1)), b.until) as period_end,
  sum(p.quantity)::bigint as quantity, sum(p.event_count)::bigint as event_count
from (
  select license_id, meter, (hour at time zone 'UTC')::date as day, quantity, event_count
  from usage_pending
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
      from usage_pending
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

-- The first day of the period that what is late goes on the invoice of: the first period behind the
-- one that it belongs to that is not closed.
create function next_open_period(license text, of_meter text, behind date) returns date
language plpgsql stable parallel safe as $$
declare
  found_end date;
  start date := greatest(behind,
    (select closed_through from license_closing where license_id = license collate "C"));
begin
  loop
    select period_end into found_end from usage_period_closed
    where license_id = license collate "C" and meter = of_meter collate "C"
      and period_start = start;
    if not found then return start; end if;
    start := found_end;
  end loop;
end $$;

-- A late adjustment grows until the period on whose invoice it goes is closed; then it is an entry.
create view usage_adjustment as
select adjustment_id, license_id, meter,
  applies_to_period_start::timestamp at time zone 'UTC' as applies_to_period_start,
  invoiced_period_start::timestamp at time zone 'UTC' as invoiced_period_start,
  kind, quantity, event_count, reason, recorded_by, idempotency_key, recorded_at, reverses
from usage_adjustment_entry
union all
select concat_ws(':', 'late', license_id, meter, period_start, invoiced), license_id, meter,
  period_start::timestamp at time zone 'UTC', invoiced::timestamp at time zone 'UTC',
  'late', quantity, event_count, 'counted after the period was closed', 'usage-aggregator', null,
  since, null
from (
  select license_id, meter, period_start, next_open_period(license_id, meter, period_end) as invoiced,
    sum(quantity)::bigint as quantity, sum(event_count)::bigint as event_count,
    coalesce(min(since), now()) as since
  from (
    select license_id, meter, period_start, period_end, quantity - recorded_quantity as quantity,
      event_count - recorded_event_count as event_count, since
    from usage_late
    where quantity <> recorded_quantity or event_count <> recorded_event_count
    union all
    select license_id, meter, period_start, period_end, quantity, event_count, null
    from usage_late_pending
  ) u group by license_id, meter, period_start, period_end
) l;

-- Totals hold the days, so what is late is taken off: what remains is what usage_by_period says.
create view usage_late_total as
select license_id, meter, period_start, period_end, quantity, event_count from usage_late
union all
select license_id, meter, period_start, period_end, quantity, event_count from usage_late_pending;

create or replace view usage_total_by_period as
select u.license_id, u.meter, u.period_start, u.period_end, sum(u.quantity) as quantity,
  sum(u.event_count) as event_count
from (
  select license_id, meter, period_start, period_end, quantity, event_count
  from usage_license_period
  union all
  select w.license_id, w.meter,
    greatest(last_anchor(w.day, coalesce(b.anchor_day, 1)), b.effective_from),
    least(next_anchor(w.day, coalesce(b.anchor_day, 1)), b.until), w.quantity, w.event_count
  from usage_unfolded w
  left join billing_interval b on b.license_id = w.license_id
    and b.effective_from <= w.day and (w.day < b.until or b.until is null)
  union all
  select license_id, meter, period_start, period_end, -quantity, -event_count from usage_late_total
  union all
  -- Closed for the sake of an adjustment.
  select license_id, meter, period_start, period_end, 0, 0 from usage_period_closed
  where event_count = 0
) u group by 1, 2, 3, 4;

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
    from usage_unfolded w join license l on l.license_id = w.license_id,
      period_of(w.license_id, w.day) p
    where l.customer_id = customer and p.end_day > from_day and p.first_day < to_day
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

create or replace function periods_of_day_by_totals(on_day date)
returns table (meter text, quantity numeric, event_count bigint)
language sql stable parallel safe as $$
  select u.meter, sum(u.quantity), sum(u.event_count)::bigint
  from (
    -- No period is longer than 31 days.
    select t.meter, t.quantity, t.event_count from usage_license_period t
    where t.period_end > on_day and t.period_end <= on_day + 31 and t.period_start <= on_day
    union all
    select w.meter, w.quantity, w.event_count
    from usage_unfolded w
    left join billing_interval b on b.license_id = w.license_id
      and b.effective_from <= w.day and (w.day < b.until or b.until is null)
    where greatest(last_anchor(w.day, coalesce(b.anchor_day, 1)), b.effective_from) <= on_day
      and least(next_anchor(w.day, coalesce(b.anchor_day, 1)), b.until) > on_day
    union all
    select t.meter, -t.quantity, -t.event_count from usage_late_total t
    where t.period_start <= on_day and t.period_end > on_day
  ) u group by 1
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
      from usage_pending p
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

-- The merge --------------------------------------------------------------------------------------

-- Counts what `merging` holds of closed periods as late. Runs in the merge's transaction; the lock
-- that the merge holds keeps every close out. Rows are written in the order of their keys.
create function usage_late_count() returns void language plpgsql as $$
begin
  -- Nearly every merge ends here: what it holds is younger than all that is closed.
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
  -- Of what nothing had been used when the license was closed.
  insert into usage_period_closed (license_id, meter, period_start, period_end, quantity,
    event_count, included, overage, customer_id, closed_at, close_id)
  select m.license_id, m.meter, m.period_start, m.period_end, 0, 0, l.quantity, 0, e.customer_id,
    c.closed_at, c.close_id
  from merging_late m join license_closing c on c.license_id = m.license_id
  left join license e on e.license_id = m.license_id
  left join license_limit l on l.license_id = m.license_id and l.meter = m.meter
  order by 1, 2, 3 on conflict do nothing;
  insert into usage_late as t (license_id, meter, period_start, period_end, quantity, event_count,
    dimensions)
  select license_id, meter, period_start, period_end, quantity, event_count, dimensions
  from merging_late order by 1, 2, 3
  on conflict (license_id, meter, period_start) do update set
    quantity = t.quantity + excluded.quantity, event_count = t.event_count + excluded.event_count,
    dimensions = case when length(t.dimensions) > greatest(1200, 2 * t.dimensions_compacted)
      then usage_dimensions_compact(concat_ws(',', nullif(t.dimensions, ''),
        nullif(excluded.dimensions, '')),
        (select domains from license l where l.license_id = t.license_id))
      else concat_ws(',', nullif(t.dimensions, ''), nullif(excluded.dimensions, '')) end,
    dimensions_compacted = case when length(t.dimensions) > greatest(1200, 2 * t.dimensions_compacted)
      then least(length(t.dimensions) / 2, 40000) else t.dimensions_compacted end,
    since = case when t.quantity = t.recorded_quantity and t.event_count = t.recorded_event_count
      then now() else t.since end;
end $$;

-- Moves the rows of `merging` into the hour and day rows, the limits and what is late, in the
-- caller's transaction. Rows are written in the order of their keys, so that merges never deadlock.
create function usage_merge_taken(isolate boolean) returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
begin
  if isolate then
    with sums as (
      select license_id, meter, (hour at time zone 'UTC')::date as day, sum(quantity) as quantity
      from merging group by 1, 2, 3
    ), broken as (
      select s.license_id, s.meter, s.day from sums s left join usage_day d using (license_id, meter, day)
      where s.quantity + coalesce(d.quantity, 0) > 100000000000000000
    ), aside as (
      delete from merging m using broken b
      where m.license_id = b.license_id and m.meter = b.meter and (m.hour at time zone 'UTC')::date = b.day
      returning m.*
    ) insert into usage_quarantine select *, now() from aside;
  end if;
  insert into usage_hour as h (license_id, meter, hour, log_epoch, partition, first_offset, last_offset,
    quantity, event_count, minutes)
  select license_id, meter, hour, log_epoch, partition, min(first_offset), max(last_offset),
    sum(quantity)::bigint, sum(event_count)::bigint, string_agg(minutes, ',')
  from merging group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5
  on conflict (license_id, meter, hour, log_epoch, partition) do update set
    first_offset = least(h.first_offset, excluded.first_offset),
    last_offset = greatest(h.last_offset, excluded.last_offset),
    quantity = h.quantity + excluded.quantity,
    event_count = h.event_count + excluded.event_count,
    minutes = case when length(h.minutes) > greatest(900, 2 * h.minutes_compacted)
      then usage_minutes_compact(concat_ws(',', nullif(h.minutes, ''), excluded.minutes))
      else concat_ws(',', nullif(h.minutes, ''), excluded.minutes) end,
    minutes_compacted = case when length(h.minutes) > greatest(900, 2 * h.minutes_compacted)
      then least(length(h.minutes) / 2, 1500) else h.minutes_compacted end,
    written_at = now();
  insert into usage_day as d (license_id, meter, day, quantity, event_count, dimensions)
  select license_id, meter, (hour at time zone 'UTC')::date, sum(quantity)::bigint, sum(event_count)::bigint,
    coalesce(string_agg(nullif(dimensions, ''), ','), '')
  from merging group by 1, 2, 3 order by 1, 2, 3
  on conflict (license_id, meter, day) do update set
    quantity = d.quantity + excluded.quantity,
    event_count = d.event_count + excluded.event_count,
    dimensions = case when length(d.dimensions) > greatest(1200, 2 * d.dimensions_compacted)
      then usage_dimensions_compact(concat_ws(',', nullif(d.dimensions, ''), nullif(excluded.dimensions, '')),
        (select domains from license l where l.license_id = d.license_id))
      else concat_ws(',', nullif(d.dimensions, ''), nullif(excluded.dimensions, '')) end,
    dimensions_compacted = case when length(d.dimensions) > greatest(1200, 2 * d.dimensions_compacted)
      then least(length(d.dimensions) / 2, 40000) else d.dimensions_compacted end,
    written_at = now();
  insert into usage_delta (license_id, meter, day, quantity, event_count)
  select license_id, meter, (hour at time zone 'UTC')::date, sum(quantity)::bigint,
    sum(event_count)::bigint
  from merging group by 1, 2, 3;
  perform usage_late_count();
  perform limit_states_advance();
end $$;

-- Moves what is pending of some partitions into the hour and day rows and the limits, in one
-- transaction, so that every reader sees each event once: pending before, merged after.
create or replace function usage_merge(owned int[], isolate boolean default false) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  moved bigint;
begin
  perform pg_advisory_xact_lock_shared(limit_lock_key());
  if not exists (select from usage_pending where partition = any (owned)) then return 0; end if;
  create temp table if not exists merging (like usage_pending) on commit delete rows;
  with taken as (
    delete from usage_pending where partition = any (owned) returning *
  ) insert into merging select * from taken;
  get diagnostics moved = row_count;
  if moved > 0 then perform usage_merge_taken(isolate); end if;
  return moved;
end $$;

-- The close --------------------------------------------------------------------------------------

-- Takes the locks of a close, and makes the table of what is to be closed: whole licenses from
-- closed_from to boundary, or one meter of one license.
create function usage_close_lock() returns void language plpgsql as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'a close must see what was merged before it: use READ COMMITTED';
  end if;
  perform pg_advisory_xact_lock(close_lock_key());
  perform pg_advisory_xact_lock(limit_lock_key());
  create temp table if not exists closing (
    license_id text collate "C" primary key, meter text collate "C", customer_id text,
    closed_from date not null, boundary date not null) on commit delete rows;
  create temp table if not exists closing_period (
    license_id text collate "C", meter text collate "C", period_start date, period_end date,
    quantity bigint not null, event_count bigint not null,
    primary key (license_id, meter, period_start)) on commit delete rows;
  create temp table if not exists closing_late (
    license_id text collate "C", meter text collate "C", period_start date, invoiced date,
    quantity bigint not null, event_count bigint not null) on commit delete rows;
  create temp table if not exists merging (like usage_pending) on commit delete rows;
end $$;

-- Closes what `closing` holds. Answers how many periods. Call it once in a transaction.
create function usage_close_chosen(of_close bigint) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  made bigint;
begin
  with taken as (
    delete from usage_pending p using closing c where p.license_id = c.license_id
      and p.hour < c.boundary::timestamp at time zone 'UTC' returning p.*
  ) insert into merging select * from taken;
  if found then perform usage_merge_taken(true); end if;

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
create function usage_close_next(
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
      (select distinct t.license_id from usage_pending t
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

-- Closes one meter of one license in the period that begins on a day. Answers `closed`,
-- `already_closed`, `not_ended`, or `no_period` where there is nothing to close.
create function usage_close_one(of_close bigint, license text, of_meter text, start date)
returns text language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
declare
  ending date;
begin
  perform usage_close_lock();
  select end_day into ending from period_of(license, start) where first_day = start;
  if ending is null then return 'no_period'; end if;
  if exists (
    select from usage_period_closed x where x.license_id = license and x.meter = of_meter
      and x.period_start = start)
  then return 'already_closed'; end if;
  if not exists (
    select from usage_by_day d where d.license_id = license and d.meter = of_meter
      and d.bucket_start >= start::timestamp at time zone 'UTC'
      and d.bucket_start < ending::timestamp at time zone 'UTC')
    and not exists (
      select from usage_adjustment a where a.license_id = license and a.meter = of_meter
        and a.invoiced_period_start = start::timestamp at time zone 'UTC')
  then return 'no_period'; end if;
  if exists (
    select from license_closing c where c.license_id = license and start < c.closed_through)
  then return 'already_closed'; end if;
  if ending > (now() at time zone 'UTC')::date then return 'not_ended'; end if;
  insert into closing (license_id, meter, customer_id, closed_from, boundary)
  select license, of_meter, (select l.customer_id from license l where l.license_id = license),
    start, ending;
  perform usage_close_chosen(of_close);
  return 'closed';
end $$;

-- What can be closed -----------------------------------------------------------------------------

-- The open periods that end up to a day: with usage, or with an adjustment that goes on their
-- invoice. Like the reads of v0011 in two forms with one answer.
create function periods_open_adjusted(through date, of_customer text)
returns table (license_id text, meter text, period_start date, period_end date)
language sql stable as $$
  select a.license_id, a.meter, p.first_day, p.end_day
  from (
    select e.license_id, e.meter, e.invoiced_period_start as invoiced from usage_adjustment_entry e
    left join license_closing c on c.license_id = e.license_id
    where e.kind = 'manual' and e.invoiced_period_start < through
      and (c.license_id is null or e.invoiced_period_start >= c.closed_through)
    union
    select t.license_id, t.meter, next_open_period(t.license_id, t.meter, t.period_end)
    from usage_late t
    where t.quantity <> t.recorded_quantity or t.event_count <> t.recorded_event_count
    union
    select t.license_id, t.meter, next_open_period(t.license_id, t.meter, t.period_end)
    from usage_late_pending t
  ) a, period_of(a.license_id, a.invoiced) p
  where p.end_day <= through
    and (of_customer is null or exists (
      select from license l where l.license_id = a.license_id and l.customer_id = of_customer))
    and not exists (
      select from usage_period_closed x where x.license_id = a.license_id and x.meter = a.meter
        and x.period_start <= a.invoiced and a.invoiced < x.period_end)
$$;
create function periods_open_by_totals(through date, of_customer text)
returns table (license_id text, meter text, period_start date, period_end date, quantity numeric,
  event_count bigint)
language sql stable as $$
  select u.license_id, u.meter, u.period_start, u.period_end, sum(u.quantity),
    sum(u.event_count)::bigint
  from (
    select t.license_id, t.meter, t.period_start, t.period_end, t.quantity, t.event_count
    from usage_license_period t where t.period_end <= through
    union all
    select w.license_id, w.meter,
      greatest(last_anchor(w.day, coalesce(b.anchor_day, 1)), b.effective_from),
      least(next_anchor(w.day, coalesce(b.anchor_day, 1)), b.until), w.quantity, w.event_count
    from usage_unfolded w
    left join billing_interval b on b.license_id = w.license_id
      and b.effective_from <= w.day and (w.day < b.until or b.until is null)
    where w.day < through
    union all
    select a.license_id, a.meter, a.period_start, a.period_end, 0, 0
    from periods_open_adjusted(through, of_customer) a
  ) u
  left join license_closing c on c.license_id = u.license_id
  where u.period_end <= through
    and (c.license_id is null or u.period_start >= c.closed_through)
    and (of_customer is null or u.license_id in (
      select l.license_id from license l where l.customer_id = of_customer))
    and not exists (
      select from usage_period_closed x where x.license_id = u.license_id and x.meter = u.meter
        and x.period_start = u.period_start)
  group by 1, 2, 3, 4
$$;
create function periods_open_by_days(through date, of_customer text)
returns table (license_id text, meter text, period_start date, period_end date, quantity numeric,
  event_count bigint)
language sql stable as $$
  select u.license_id, u.meter, u.period_start, u.period_end, sum(u.quantity),
    sum(u.event_count)::bigint
  from (
    select v.license_id, v.meter, (v.period_start at time zone 'UTC')::date as period_start,
      (v.period_end at time zone 'UTC')::date as period_end, v.quantity, v.event_count
    from usage_by_period v
    where v.closed_at is null and v.period_end <= through::timestamp at time zone 'UTC'
      and (of_customer is null or v.license_id in (
        select l.license_id from license l where l.customer_id = of_customer))
    union all
    select a.license_id, a.meter, a.period_start, a.period_end, 0, 0
    from periods_open_adjusted(through, of_customer) a
  ) u group by 1, 2, 3, 4
$$;
create function periods_open(through date, of_customer text default null)
returns table (license_id text, meter text, period_start date, period_end date, quantity numeric,
  event_count bigint)
language plpgsql stable set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  if (select is_complete from usage_total_state) then
    return query select * from periods_open_by_totals(through, of_customer);
  else
    return query select * from periods_open_by_days(through, of_customer);
  end if;
end $$;

-- What a license used of a meter in a period by domain; of a closed period without what is late.
-- Where a late event's domain was folded into `(other)`, it is taken off there.
create function period_domains(license text, of_meter text, start date, ending date)
returns table (domain text, quantity bigint, event_count bigint)
language sql stable as $$
  with late as (
    select e->>1 as value, sum((e->>2)::bigint) as q, sum((e->>3)::bigint) as n
    from (
      select t.dimensions from usage_late t where t.license_id = license and t.meter = of_meter
        and t.period_start = start and t.dimensions <> ''
      union all
      select p.dimensions from usage_pending p
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

-- Manual adjustments -----------------------------------------------------------------------------

-- Records one, or answers why not: `recorded` and `repeated` with the adjustment's id,
-- `idempotency_mismatch`, `not_a_period_start` with the first day of the period that the day lies in,
-- `not_begun`, `unknown_license`. It goes on the invoice of its own period while that is open.
create function usage_adjust(
  license text, of_meter text, applies_to date, of_quantity bigint, events bigint, because text,
  by_whom text, key text
) returns table (outcome text, detail text)
language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  period record;
begin
  -- A close that runs is waited for: it has seen the adjustment, or the adjustment sees the close.
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
  return query select * from usage_adjustment_add(license, of_meter, applies_to, period.end_day,
    of_quantity, events, because, by_whom, key, null);
end $$;

create function usage_adjustment_add(
  license text, of_meter text, applies_to date, ending date, of_quantity bigint, events bigint,
  because text, by_whom text, key text, taking_back text
) returns table (outcome text, detail text)
language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  known usage_adjustment_entry;
  made text;
  is_closed boolean := exists (
      select from license_closing c where c.license_id = license and applies_to < c.closed_through)
    or exists (
      select from usage_period_closed x where x.license_id = license and x.meter = of_meter
        and x.period_start = applies_to);
begin
  insert into usage_adjustment_entry (adjustment_id, license_id, meter, applies_to_period_start,
    invoiced_period_start, kind, quantity, event_count, reason, recorded_by, idempotency_key, reverses)
  values ('adj_' || replace(gen_random_uuid()::text, '-', ''), license, of_meter, applies_to,
    case when is_closed then next_open_period(license, of_meter, ending) else applies_to end,
    'manual', of_quantity, events, because, by_whom, key, taking_back)
  on conflict do nothing returning adjustment_id into made;
  if made is not null then return query select 'recorded', made; return; end if;
  select * into known from usage_adjustment_entry e
  where e.recorded_by = by_whom and e.idempotency_key = key;
  if not found then return query select 'already_reversed', taking_back; return; end if;
  return query select case when known.license_id = license collate "C"
      and known.meter = of_meter collate "C" and known.applies_to_period_start = applies_to
      and known.quantity = of_quantity and known.event_count = events and known.reason = because
      and known.reverses is not distinct from taking_back
    then 'repeated' else 'idempotency_mismatch' end, known.adjustment_id;
end $$;

-- The counter-entry of an adjustment, on the invoice of the next open period. Answers as usage_adjust
-- does; also `unknown_adjustment`, `already_reversed`, and `still_open` for a late one that grows.
create function usage_adjustment_reverse(which text, because text, by_whom text, key text)
returns table (outcome text, detail text)
language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  entry usage_adjustment_entry;
begin
  perform pg_advisory_xact_lock_shared(close_lock_key());
  select * into entry from usage_adjustment_entry e where e.adjustment_id = which;
  if not found then
    return query select case when exists (
      select from usage_adjustment a where a.adjustment_id = which)
      then 'still_open' else 'unknown_adjustment' end, which;
    return;
  end if;
  return query select a.* from period_of(entry.license_id, entry.applies_to_period_start) p,
    usage_adjustment_add(entry.license_id, entry.meter, entry.applies_to_period_start, p.end_day,
      -entry.quantity, -entry.event_count, because, by_whom, key, which) a;
end $$;

-- A manual adjustment is used like usage of its period: the sweep makes the license's state again.
create function usage_adjustment_counts() returns trigger language plpgsql as $$
begin
  perform limit_mark(m.license_id, m.meter) from (
    select distinct license_id, meter from added where kind = 'manual' order by 1, 2) m;
  return null;
end $$;
create trigger usage_adjustment_counts after insert on usage_adjustment_entry
  referencing new table as added for each statement execute function usage_adjustment_counts();

-- Makes the states that are missing for these days, from the day rows and the manual adjustments as
-- they are now; answers those it made.
create or replace function limit_states_make(licenses text[], meters text[], days date[], new_version bigint)
returns table (license_id text, meter text, period_start date, period_end date) language sql as $$
  insert into limit_state as s (license_id, meter, period_start, period_end, limit_quantity, thresholds, used,
    next_quantity, version)
  select w.license_id, w.meter, w.first_day, w.end_day, l.quantity, c.alert_thresholds,
    (coalesce((select sum(d.quantity) from usage_day d where d.license_id = w.license_id and d.meter = w.meter
      and d.day >= w.first_day and d.day < w.end_day), 0)
    -- Bounded, so that the sum fits whatever was recorded.
    + least(greatest(coalesce((select sum(e.quantity) from usage_adjustment_entry e
        where e.license_id = w.license_id and e.meter = w.meter and e.kind = 'manual'
          and e.applies_to_period_start >= w.first_day and e.applies_to_period_start < w.end_day), 0),
      -4000000000000000000), 4000000000000000000))::bigint,
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
