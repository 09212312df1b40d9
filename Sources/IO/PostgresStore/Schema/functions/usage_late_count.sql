-- Counts usage of closed periods in `merging` as late. It runs in the merge's transaction, and the
-- merge's lock keeps every close out. Rows are written in the order of their keys.
create function usage_late_count() returns void language plpgsql as $$
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
