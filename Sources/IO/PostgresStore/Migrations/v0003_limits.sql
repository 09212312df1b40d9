-- Limits: each license's usage of the running period beside its limit, advanced by the very merge that writes the day rows, and judged there.
-- So an alert exists if and only if the rows that it tells of do, whoever dies when.

update schema_version set version = 3;

-- How much of a limit is used: a running sum of usage_day over one period, always equal to it.
create table limit_state (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  period_start date not null,
  period_end date not null,
  limit_quantity bigint not null,
  thresholds int[] not null,
  used bigint not null,
  -- The next threshold in units of the meter; null: none is left.
  next_quantity bigint,
  is_over boolean generated always as (used >= limit_quantity) stored,
  -- Of the making: readers ask for what is newer than they know. Merges may commit out of this order, so now and then they read all.
  version bigint not null,
  primary key (license_id, meter, period_start)
) with (fillfactor = 70);
create index limit_state_over on limit_state (license_id, meter) where is_over;
create index limit_state_made on limit_state (version);
create sequence limit_version;

-- Licenses whose state must be made anew. Counting up instead of doing nothing takes the row's lock: a sweep that runs meanwhile skips it
-- and finds it after the change has committed.
create table limit_change (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  marks bigint not null default 1,
  primary key (license_id, meter)
);

create function limit_mark(license text, changed_meter text) returns void language sql as $$
  insert into limit_change as c (license_id, meter) values (license, changed_meter)
  on conflict (license_id, meter) do update set marks = c.marks + 1
$$;

create function limit_changed() returns trigger language plpgsql as $$
begin
  if tg_op <> 'INSERT' then perform limit_mark(old.license_id, old.meter); end if;
  if tg_op <> 'DELETE' then perform limit_mark(new.license_id, new.meter); end if;
  return null;
end $$;
create trigger limit_changed after insert or delete on license_limit for each row execute function limit_changed();
create trigger limit_raised after update on license_limit for each row
  when (old.* is distinct from new.*) execute function limit_changed();

create function license_limits_changed() returns trigger language plpgsql as $$
begin
  perform limit_mark(l.license_id, l.meter) from license_limit l where l.license_id = new.license_id order by l.meter;
  return null;
end $$;
create trigger license_thresholds_changed after update on license for each row
  when (old.alert_thresholds is distinct from new.alert_thresholds) execute function license_limits_changed();
create trigger license_anchor_changed after insert or update on license_billing_anchor for each row
  execute function license_limits_changed();

-- The period that a day belongs to; the same rule as usage_by_period's.
create function period_of(license text, day date) returns table (first_day date, end_day date) language sql stable as $$
  select greatest(last_anchor(day, coalesce(a.anchor_day, 1)), a.effective_from),
    least(next_anchor(day, coalesce(a.anchor_day, 1)), n.effective_from)
  from (select) one
  left join lateral (
    select anchor_day, nullif(effective_from, '-infinity') as effective_from from license_billing_anchor b
    where b.license_id = license and b.effective_from <= day order by b.effective_from desc limit 1) a on true
  left join lateral (
    select b.effective_from from license_billing_anchor b
    where b.license_id = license and b.effective_from > day order by b.effective_from limit 1) n on true
$$;

-- The smallest quantity above `used` that reaches a threshold. Whoever lists one of 100 or more also hears of each further 100. Of a limit of 0
-- there is nothing to approach: one call exceeds it.
create function limit_next_quantity(limit_quantity bigint, thresholds int[], used bigint) returns bigint
language sql immutable parallel safe as $$
  select min(q)::bigint from (
    select greatest(ceil(limit_quantity::numeric * t / 100), 1) as q from unnest(thresholds) t
    where t > 0 and (limit_quantity > 0 or t >= 100)
    union all
    select limit_quantity::numeric * (greatest(floor(used::numeric / nullif(limit_quantity, 0)), 1) + 1)
    where limit_quantity > 0 and 100 <= any (thresholds)
  ) candidates where q > used and q < 9000000000000000000
$$;

-- Makes the states that are missing for these days, from the day rows as they are now; answers those it made.
create function limit_states_make(licenses text[], meters text[], days date[], new_version bigint)
returns table (license_id text, meter text, period_start date, period_end date) language sql as $$
  insert into limit_state as s (license_id, meter, period_start, period_end, limit_quantity, thresholds, used,
    next_quantity, version)
  select w.license_id, w.meter, w.first_day, w.end_day, l.quantity, c.alert_thresholds,
    coalesce((select sum(d.quantity) from usage_day d where d.license_id = w.license_id and d.meter = w.meter
      and d.day >= w.first_day and d.day < w.end_day), 0)::bigint,
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

-- Raises what a state has reached. The key has the limit, so that a raised one alerts anew; the same one never does.
create function limit_judge(license text, of_meter text, start date, evidence jsonb) returns void language plpgsql as $$
declare
  s limit_state;
  percent bigint;
begin
  select * into s from limit_state where license_id = license and meter = of_meter and period_start = start for no key update;
  -- Nobody is told of periods that ended long ago.
  if not found or s.period_end < (now() at time zone 'UTC')::date - 7 then return; end if;
  for percent in
    select t from unnest(s.thresholds) t
    where t > 0 and (s.limit_quantity > 0 or t >= 100) and s.used > 0
      and s.used::numeric * 100 >= s.limit_quantity::numeric * t
    union
    -- Of the further hundreds that one merge passes, the highest.
    select (floor(s.used::numeric / nullif(s.limit_quantity, 0)) * 100)::bigint
    where s.limit_quantity > 0 and 100 <= any (s.thresholds) and s.used::numeric / nullif(s.limit_quantity, 0) >= 2
      and s.used::numeric / nullif(s.limit_quantity, 0) < 1e15
    order by 1
  loop
    perform alert_raise(
      case when percent >= 100 then 'license.limit_exceeded' else 'license.limit_approaching' end,
      license, now(),
      jsonb_build_object('meter', of_meter, 'limit', s.limit_quantity, 'used', s.used, 'threshold_percent', percent,
        'period_start', to_char(s.period_start, 'YYYY-MM-DD"T00:00:00Z"'),
        'period_end', to_char(s.period_end, 'YYYY-MM-DD"T00:00:00Z"')),
      concat_ws('/', 'license.limit', license, of_meter, s.period_start, s.limit_quantity, percent), evidence);
  end loop;
  update limit_state set next_quantity = limit_next_quantity(s.limit_quantity, s.thresholds, s.used)
  where license_id = license and meter = of_meter and period_start = start;
end $$;

-- Adds what `merging` holds to the states of its licenses, and judges those that reach a threshold. Runs in the merge's transaction, behind
-- its day rows; in the order of keys, so that merges never deadlock.
create function limit_states_advance() returns void language plpgsql as $$
declare
  due record;
begin
  if not exists (select from license_limit) then return; end if;
  create temp table if not exists limit_touched (
    license_id text collate "C" not null, meter text collate "C" not null, day date not null, quantity bigint not null,
    is_counted boolean not null default false) on commit delete rows;
  insert into limit_touched (license_id, meter, day, quantity)
  select license_id, meter, (hour at time zone 'UTC')::date, sum(m.quantity)::bigint
  from merging m join license_limit l using (license_id, meter)
  where hour > now() - interval '45 days' group by 1, 2, 3;
  if not found then return; end if;

  with missing as (
    select array_agg(license_id) as licenses, array_agg(meter) as meters, array_agg(day) as days
    from limit_touched t where not exists (
      select from limit_state s where s.license_id = t.license_id and s.meter = t.meter
        and s.period_start <= t.day and t.day < s.period_end)
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
      select jsonb_agg(e) from (
        select log_epoch, partition, min(first_offset) as first_offset, max(last_offset) as last_offset
        from merging m where m.license_id = due.license_id and m.meter = due.meter group by 1, 2) e));
  end loop;

  if exists (
    select from limit_touched t join limit_state s on s.license_id = t.license_id and s.meter = t.meter
      and s.period_start <= t.day and t.day < s.period_end
    where s.is_over and s.used - t.quantity < s.limit_quantity)
  then perform pg_notify('limit_state', ''); end if;
end $$;

-- Held shared by merges and alone by sweeps: a sweep's sums leave out no merge that did not know of the change.
create function limit_lock_key() returns bigint language sql immutable as $$ select 84960541029 $$;

alter function usage_merge(int[], boolean) rename to usage_merge_rows;
create function usage_merge(owned int[], isolate boolean default false) returns bigint language plpgsql as $$
declare
  moved bigint;
begin
  perform pg_advisory_xact_lock_shared(limit_lock_key());
  moved := usage_merge_rows(owned, isolate);
  if moved > 0 then perform limit_states_advance(); end if;
  return moved;
end $$;

-- Makes the states anew whose license, limit or usage was changed by hand, and judges them; answers how many.
create function limit_sweep(most int) returns int language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  licenses text[];
  meters text[];
  reached record;
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
  delete from limit_state s using unnest(licenses, meters) u(license_id, meter)
  where s.license_id = u.license_id and s.meter = u.meter;
  perform limit_states_make(licenses, meters, array_fill((now() at time zone 'UTC')::date, array[cardinality(licenses)]),
    nextval('limit_version'));
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

-- Forgets states of periods that merges no longer add to; one that is needed again is made from the day rows.
create function limit_states_retain() returns bigint language sql as $$
  with gone as (
    delete from limit_state where period_end < (now() at time zone 'UTC')::date - 45 returning 1
  ) select count(*) from gone
$$;

-- Licenses that have limits already.
insert into limit_change (license_id, meter) select license_id, meter from license_limit;
