-- Totals of meters and of the largest customers are watched: too high, too low, stopped.

update schema_version set version = 22;

-- How far totals have been judged, ten minutes at a time: one row, of whichever anomaly-detector judges. A slot is judged when the
-- aggregator has passed `log_ends`, the ends of the log's partitions as they were after `covered_until`.
create table usage_watch (
  only_row boolean primary key default true constraint usage_watch_is_one_row check (only_row),
  next_slot timestamptz not null,
  covered_until timestamptz,
  log_ends bigint[],
  chosen_on date
);

-- The totals that are watched, each with what its detector knows, opaque to SQL; empty: nothing yet. An empty customer stands for the
-- meter's calls of all customers.
create table usage_watch_series (
  customer_id text collate "C" not null,
  meter text collate "C" not null,
  state bytea not null default '',
  -- Whether an anomaly is going on.
  is_open boolean not null default false,
  primary key (customer_id, meter)
) with (fillfactor = 70);

-- What is watched from now on: the meters (100 at most) and the customers with the most events of the last two weeks, each of their
-- meters by itself. What has an anomaly going on stays until that has ended.
create function usage_watch_choose(most int) returns void language sql as $$
  with busy as (
    select customer_id collate "C" as customer_id, meter, sum(event_count) as events
    from usage_customer_day where day > (now() at time zone 'UTC')::date - 14 group by 1, 2
  ), largest as (
    select customer_id from busy where customer_id <> '' group by 1
    order by sum(events) desc, customer_id limit most
  ), chosen as (
    (select b.customer_id, b.meter from busy b join largest using (customer_id)
      order by b.events desc, 1, 2 limit 3 * most)
    union all
    (select '', meter from busy group by meter order by sum(events) desc, meter limit 100)
  ), gone as (
    delete from usage_watch_series s where not s.is_open and not exists (
      select from chosen c where c.customer_id = s.customer_id and c.meter = s.meter)
  )
  insert into usage_watch_series (customer_id, meter)
  select customer_id, meter from chosen on conflict do nothing
$$;

-- The totals of ten minutes by customer and meter, and by meter alone (an empty customer).
create function usage_watch_totals(slot timestamptz)
returns table (customer_id text, meter text, quantity numeric) language sql stable as $$
  with parts as (
    select license_id, meter, minutes from usage_hour where hour = date_trunc('hour', slot, 'UTC')
    union all
    select license_id, meter, minutes from usage_pending where hour = date_trunc('hour', slot, 'UTC')
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

-- Raises alerts about totals, an object each: occurred_at (milliseconds), dedupe_key, data. They are the vendor's alone: whom they are
-- about stands in their data.
create function usage_anomaly_raise(findings jsonb) returns void language plpgsql as $$
declare
  f jsonb;
begin
  for f in select e from jsonb_array_elements(findings) e order by e->>'dedupe_key' loop
    perform alert_raise_for('usage.anomaly', null, null,
      to_timestamp((f->>'occurred_at')::float8 / 1000), f->'data', f->>'dedupe_key');
  end loop;
end $$;
