-- The state that the log is turned into. What others may query are the views and tables that docs/schema.md lists;
-- usage_pending, usage_hour and usage_day are storage and may change.

create table schema_version (
  only_row boolean primary key default true check (only_row),
  version int not null,
  min_compatible int not null
);
insert into schema_version (version, min_compatible) values (1, 1);

-- Customers and licenses ------------------------------------------------------------------------

create table customer (
  customer_id text primary key,
  name text not null,
  stripe_customer_id text,
  created_at timestamptz not null default now()
);

create table license (
  license_id text collate "C" primary key,
  customer_id text not null references customer,
  plan text not null,
  features text[] not null default '{}',
  domains text[] not null default '{}',
  seats int,
  trial boolean not null default false,
  status text not null default 'active' check (status in ('active', 'suspended', 'canceled')),
  overage_policy text not null default 'block' check (overage_policy in ('block', 'allow')),
  alert_thresholds int[] not null default '{80,100}',
  issued_at timestamptz not null,
  expires_at timestamptz not null,
  billing_anchor_day int not null default 1 check (billing_anchor_day between 1 and 31),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index license_by_customer on license (customer_id);

create table license_limit (
  license_id text collate "C" not null references license on delete cascade,
  meter text not null,
  quantity bigint not null check (quantity >= 0),
  primary key (license_id, meter)
);

-- Which anchor day a license's periods have followed since when. A change begins at the first anchor date of the new
-- day, so that it makes one short period and never moves a period that has ended.
create table license_billing_anchor (
  license_id text collate "C" not null references license on delete cascade,
  effective_from date not null,
  anchor_day int not null check (anchor_day between 1 and 31),
  primary key (license_id, effective_from)
);

-- The log's offsets and who was heard ------------------------------------------------------------

create table consumer_offset (
  consumer_group text not null,
  topic text not null,
  partition int not null,
  next_offset bigint not null,
  log_epoch int not null default 1,
  last_record_offset bigint,
  last_record_hash bigint,
  updated_at timestamptz not null default now(),
  -- The process that owns the partition: a flush of any other is refused, even if the offset still fits.
  claimed_by text,
  primary key (consumer_group, topic, partition)
) with (fillfactor = 50);

-- The size of the dedupe window and the offset from which it holds: duplicates stay a function of the log.
create table dedupe_window (
  consumer_group text not null,
  topic text not null,
  partition int not null,
  log_epoch int not null,
  from_offset bigint not null,
  window_offsets int not null check (window_offsets > 0),
  primary key (consumer_group, topic, partition, log_epoch, from_offset)
);

create table producer_sequence (
  consumer_group text not null,
  topic text not null,
  partition int not null,
  producer text collate "C" not null,
  sequence bigint not null,
  dead_sequence bigint not null,
  counted bigint not null,
  duplicates bigint not null,
  repeated bigint not null,
  dead_lettered bigint not null,
  primary key (consumer_group, topic, partition, producer)
) with (fillfactor = 50);
create index producer_sequence_by_producer on producer_sequence (consumer_group, topic, producer);

create table producer_report (
  consumer_group text not null,
  topic text not null,
  producer text collate "C" not null,
  accepted bigint not null,
  pending bigint not null,
  dropped bigint not null,
  final boolean not null,
  reported_at timestamptz not null,
  -- Log end of every partition after the report had arrived; null until it has been looked up.
  log_ends bigint[],
  log_epoch int not null,
  judged_at timestamptz,
  primary key (consumer_group, topic, producer)
) with (fillfactor = 70);

create view producer_ledger as
select coalesce(s.consumer_group, r.consumer_group) as consumer_group,
  coalesce(s.topic, r.topic) as topic,
  coalesce(s.producer, r.producer) as producer,
  r.accepted, r.pending, r.dropped,
  coalesce(s.counted, 0)::bigint as counted,
  coalesce(s.duplicates, 0)::bigint as duplicates,
  coalesce(s.dead_lettered, 0)::bigint as dead_lettered,
  case when r.judged_at is null
    then greatest(r.accepted - r.dropped - r.pending - coalesce(s.accounted, 0), 0) else 0 end::bigint
    as in_flight,
  -- A report that is not the last one is overtaken by newer events: what is counted beyond it is no loss.
  case when r.judged_at is null then 0
    when r.final then r.accepted - r.dropped - r.pending - coalesce(s.accounted, 0)
    else greatest(r.accepted - r.dropped - r.pending - coalesce(s.accounted, 0), 0) end::bigint
    as missing,
  r.reported_at as last_report_at,
  coalesce(s.repeated, 0)::bigint as repeated,
  r.final
from (
  select consumer_group, topic, producer, sum(counted) as counted, sum(duplicates) as duplicates,
    sum(repeated) as repeated, sum(dead_lettered) as dead_lettered,
    sum(counted + repeated + dead_lettered) as accounted
  from producer_sequence group by 1, 2, 3
) s full join producer_report r using (consumer_group, topic, producer);

create table dead_letter (
  topic text not null,
  partition int not null,
  log_offset bigint not null,
  log_epoch int not null,
  consumer_group text not null,
  reason text not null,
  detail text not null,
  payload bytea,
  record_key bytea,
  received_at timestamptz not null default now(),
  forwarded_at timestamptz,
  requeued_at timestamptz,
  counted_at timestamptz
);
-- Not unique on purpose: a unique key would make a flush wait for the open one of a stopped process. The
-- compare-and-set of the offset in the same transaction makes each row the only one.
create index dead_letter_by_place on dead_letter (topic, partition, log_offset, log_epoch);
create index dead_letter_to_forward on dead_letter (received_at) where forwarded_at is null;

create table log_gap (
  consumer_group text not null,
  topic text not null,
  partition int not null,
  log_epoch int not null,
  first_offset bigint not null,
  last_offset bigint not null,
  reason text not null,
  accepted_by text not null,
  accepted_at timestamptz not null default now()
);

create table import_batch (
  batch text primary key,
  file_hash text unique not null,
  file_name text not null,
  format text not null,
  options jsonb not null default '{}',
  oldest_time timestamptz not null,
  producer text not null,
  status text not null default 'running' check (status in ('running', 'finished')),
  lines_read bigint not null default 0,
  events_sent bigint not null default 0,
  lines_rejected bigint not null default 0,
  started_at timestamptz not null default now(),
  finished_at timestamptz
);

-- Usage ------------------------------------------------------------------------------------------

-- What flushes append and merges take away: one row for each license, meter and hour of a flush. `minutes` and `dimensions` hold
-- the parts as JSON array elements joined by commas, without the outer brackets, so that merging is concatenation:
--   minutes:    [minute_of_hour, quantity, event_count]
--   dimensions: ["domain" | "feature", value, quantity, event_count]
create table usage_pending (
  log_epoch int not null,
  partition int not null,
  license_id text collate "C" not null,
  meter text collate "C" not null,
  hour timestamptz not null,
  first_offset bigint not null,
  last_offset bigint not null,
  quantity bigint not null,
  event_count bigint not null,
  minutes text not null,
  dimensions text not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100000, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);

create table usage_hour (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  hour timestamptz not null,
  log_epoch int not null,
  partition int not null,
  first_offset bigint not null,
  last_offset bigint not null,
  quantity bigint not null,
  event_count bigint not null,
  minutes text not null,
  -- Length of minutes after it was last compacted; it is compacted again when it has doubled.
  minutes_compacted int not null default 0,
  written_at timestamptz not null default now(),
  primary key (license_id, meter, hour, log_epoch, partition)
) partition by range (hour);

create table usage_day (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  day date not null,
  quantity bigint not null,
  event_count bigint not null,
  dimensions text not null,
  dimensions_compacted int not null default 0,
  written_at timestamptz not null default now(),
  -- A license-day beyond this is quarantined (usage_quarantine): a period's sum must fit 64 bits.
  constraint usage_day_fits check (quantity <= 100000000000000000),
  primary key (license_id, meter, day)
) partition by range (day);

create table usage_hour_default partition of usage_hour default with (fillfactor = 70);
create table usage_day_default partition of usage_day default with (fillfactor = 70);

-- Rows of licenses whose numbers no longer fit, set aside whole by a merge: counted nowhere, lost nowhere.
create table usage_quarantine (like usage_pending, quarantined_at timestamptz not null default now());

-- Month partitions are made ahead; the default takes what is older (imports) or further ahead.
create function create_month_partitions(months_ahead int) returns void language plpgsql as $$
declare
  first_month date := date_trunc('month', now() at time zone 'UTC')::date;
  month date;
begin
  for i in 0..months_ahead loop
    month := (first_month + make_interval(months => i))::date;
    if to_regclass('usage_hour_' || to_char(month, 'YYYYMM')) is null then
      -- Fails, and is left to the default, where the default already holds rows of that month.
      begin
        execute format('create table %I partition of usage_hour for values from (%L) to (%L) with (fillfactor = 70)',
          'usage_hour_' || to_char(month, 'YYYYMM'), month::timestamp at time zone 'UTC',
          (month + interval '1 month') at time zone 'UTC');
        execute format('create table %I partition of usage_day for values from (%L) to (%L) with (fillfactor = 70)',
          'usage_day_' || to_char(month, 'YYYYMM'), month, (month + interval '1 month')::date);
      exception when check_violation then
        raise notice 'the default partition holds rows of %, which stay there', month;
      end;
    end if;
  end loop;
end $$;
select create_month_partitions(3);

create function usage_minutes_compact(parts text) returns text language sql immutable parallel safe as $$
  select coalesce(string_agg('[' || minute || ',' || quantity || ',' || events || ']', ',' order by minute), '')
  from (
    select (e->>0)::int as minute, sum((e->>1)::bigint) as quantity, sum((e->>2)::bigint) as events
    from json_array_elements(('[' || parts || ']')::json) e group by 1
  ) m
$$;

-- The values of a license's day, at most 200 a dimension: the first ones stay, bound domains always, the rest is `(other)`.
create function usage_dimensions_capped(parts text, bound text[])
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

create function usage_dimensions_compact(parts text, bound text[]) returns text
language sql immutable parallel safe as $$
  -- By size, so that the order that ranks values is stable between compactions.
  select coalesce(string_agg(json_build_array(dimension, value, quantity, event_count)::text, ','
    order by quantity desc, value), '')
  from usage_dimensions_capped(parts, bound)
$$;

-- Moves what is pending of some partitions into the hour and day rows, in one transaction, so that every reader sees each
-- event once: pending before, merged after. Rows are written in the order of their keys, so that merges never deadlock.
create function usage_merge(owned int[], isolate boolean default false) returns bigint
language plpgsql set plan_cache_mode = force_custom_plan as $$
declare
  moved bigint;
begin
  if not exists (select from usage_pending where partition = any (owned)) then return 0; end if;
  create temp table if not exists merging (like usage_pending) on commit delete rows;
  -- All at once: a limit would need a second walk over the rows, and flushes wait for merges anyway.
  with taken as (
    delete from usage_pending where partition = any (owned) returning *
  ) insert into merging select * from taken;
  get diagnostics moved = row_count;
  if moved = 0 then return 0; end if;
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
  return moved;
end $$;

-- Retention: minutes 7 days, hours 400 days since they were last written; days for good. Returns the rows touched.
-- Walks all hour rows: an index on written_at would cost every merge its HOT update.
create function usage_retain(max_rows int) returns bigint language plpgsql as $$
declare
  cleared bigint;
  dropped bigint;
begin
  update usage_hour set minutes = '', minutes_compacted = 0
  where (license_id, meter, hour, log_epoch, partition) in (
    select license_id, meter, hour, log_epoch, partition from usage_hour
    where written_at < now() - interval '7 days' and minutes <> ''
    limit max_rows for update skip locked);
  get diagnostics cleared = row_count;
  delete from usage_hour
  where (license_id, meter, hour, log_epoch, partition) in (
    select license_id, meter, hour, log_epoch, partition from usage_hour
    where written_at < now() - interval '400 days' limit max_rows for update skip locked);
  get diagnostics dropped = row_count;
  return cleared + dropped;
end $$;

-- Views: merged and pending, added. -----------------------------------------------------------------

create view usage_by_minute as
select license_id, meter, hour + make_interval(mins => minute) as bucket_start,
  sum(quantity)::bigint as quantity, sum(events)::bigint as event_count
from (
  select u.license_id, u.meter, u.hour, (e->>0)::int as minute, (e->>1)::bigint as quantity,
    (e->>2)::bigint as events
  from (
    select license_id, meter, hour, minutes from usage_hour
    union all
    select license_id, meter, hour, minutes from usage_pending
  ) u, json_array_elements(('[' || u.minutes || ']')::json) e
) m group by license_id, meter, hour, minute;

create view usage_by_hour as
select license_id, meter, hour as bucket_start,
  sum(quantity)::bigint as quantity, sum(event_count)::bigint as event_count
from (
  select license_id, meter, hour, quantity, event_count from usage_hour
  union all
  select license_id, meter, hour, quantity, event_count from usage_pending
) u group by license_id, meter, hour;

create view usage_by_day as
select license_id, meter, day::timestamp at time zone 'UTC' as bucket_start,
  sum(quantity)::bigint as quantity, sum(event_count)::bigint as event_count
from (
  select license_id, meter, day, quantity, event_count from usage_day
  union all
  select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count from usage_pending
) u group by license_id, meter, day;

create view usage_by_dimension_day as
select u.license_id, u.meter, u.day::timestamp at time zone 'UTC' as bucket_start, c.dimension, c.value,
  c.quantity, c.event_count
from (
  select license_id, meter, day, string_agg(dimensions, ',' order by is_pending) as dimensions
  from (
    select license_id, meter, day, dimensions, false as is_pending from usage_day where dimensions <> ''
    union all
    select license_id, meter, (hour at time zone 'UTC')::date, dimensions, true from usage_pending
    where dimensions <> ''
  ) parts group by license_id, meter, day
) u
left join license l on l.license_id = u.license_id,
  usage_dimensions_capped(u.dimensions, l.domains) c;

create view usage_provenance as
select license_id, meter, hour as bucket_start, log_epoch, partition,
  min(first_offset) as first_offset, max(last_offset) as last_offset
from (
  select license_id, meter, hour, log_epoch, partition, first_offset, last_offset from usage_hour
  union all
  select license_id, meter, hour, log_epoch, partition, first_offset, last_offset from usage_pending
) u group by license_id, meter, hour, log_epoch, partition;

-- Periods ------------------------------------------------------------------------------------------

-- The anchor date of a month: the anchor day, or the month's last day where it has fewer.
create function anchor_date(month date, anchor_day int) returns date language sql immutable parallel safe as $$
  select least(month + (anchor_day - 1), (month + interval '1 month' - interval '1 day')::date)
$$;

-- The first anchor date after `day`, and the last one up to `day`.
create function next_anchor(day date, anchor_day int) returns date language sql immutable parallel safe as $$
  select case when anchor_date(date_trunc('month', day)::date, anchor_day) > day
    then anchor_date(date_trunc('month', day)::date, anchor_day)
    else anchor_date((date_trunc('month', day) + interval '1 month')::date, anchor_day) end
$$;
create function last_anchor(day date, anchor_day int) returns date language sql immutable parallel safe as $$
  select case when anchor_date(date_trunc('month', day)::date, anchor_day) <= day
    then anchor_date(date_trunc('month', day)::date, anchor_day)
    else anchor_date((date_trunc('month', day) - interval '1 month')::date, anchor_day) end
$$;

create view usage_by_period as
select license_id || ':' || meter || ':' || to_char(first_day, 'YYYY-MM-DD') as period_id,
  license_id, meter, first_day::timestamp at time zone 'UTC' as period_start,
  end_day::timestamp at time zone 'UTC' as period_end,
  sum(quantity)::bigint as quantity, sum(event_count)::bigint as event_count,
  null::timestamptz as closed_at, null::bigint as included, null::bigint as overage
from (
  select d.license_id, d.meter, d.quantity, d.event_count,
    greatest(last_anchor(d.day, coalesce(a.anchor_day, 1)), a.effective_from) as first_day,
    least(next_anchor(d.day, coalesce(a.anchor_day, 1)), n.effective_from) as end_day
  from (
    select license_id, meter, day, quantity, event_count from usage_day
    union all
    select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count from usage_pending
  ) d
  left join lateral (
    select anchor_day, nullif(effective_from, '-infinity') as effective_from
    from license_billing_anchor b
    where b.license_id = d.license_id and b.effective_from <= d.day
    order by b.effective_from desc limit 1) a on true
  left join lateral (
    select b.effective_from from license_billing_anchor b
    where b.license_id = d.license_id and b.effective_from > d.day
    order by b.effective_from limit 1) n on true
) p group by license_id, meter, first_day, end_day;

-- The flush ------------------------------------------------------------------------------------------

-- The end of a flush, called as one message with COMMIT behind it: all that meets a unique key, so that locks live for one round trip.
-- Raises MM001 with the partitions (as JSON in DETAIL) whose offset, epoch or owner is not what the process believes.
create function flush_commit(
  flush_group text, flush_topic text, owner text, epochs int[],
  partitions int[], expected bigint[], next bigint[], last_offsets bigint[], last_hashes bigint[],
  producer_partitions int[], producers text[], sequences bigint[], dead_sequences bigint[], counted bigint[],
  duplicates bigint[], repeated bigint[], dead_lettered bigint[],
  report_producers text[], accepted bigint[], pending bigint[], dropped bigint[], finals boolean[],
  reported_ats timestamptz[],
  requeued_epochs int[], requeued_topics text[], requeued_partitions int[], requeued_offsets bigint[]
) returns void language plpgsql as $$
declare
  updated int[];
  counted_rows bigint;
begin
  with locked as (
    select o.partition from consumer_offset o
    where o.consumer_group = flush_group and o.topic = flush_topic and o.partition = any (partitions)
    order by o.partition for update
  ), moved as (
    update consumer_offset o set next_offset = f.next, last_record_offset = nullif(f.last_offset, -1),
      last_record_hash = case when f.last_offset = -1 then null else f.last_hash end, updated_at = now()
    from unnest(epochs, partitions, expected, next, last_offsets, last_hashes)
      as f(epoch, partition, expected, next, last_offset, last_hash), locked l
    where o.consumer_group = flush_group and o.topic = flush_topic and o.partition = f.partition
      and l.partition = f.partition
      and o.next_offset = f.expected and o.claimed_by = owner and o.log_epoch = f.epoch
    returning o.partition
  ) select coalesce(array_agg(partition), '{}') into updated from moved;
  if cardinality(updated) <> cardinality(partitions) then
    raise exception 'partitions were taken over' using errcode = 'MM001', detail = (
      select json_agg(p)::text from unnest(partitions) p where p <> all (updated));
  end if;
  if cardinality(producers) > 0 then
    insert into producer_sequence as s (consumer_group, topic, partition, producer, sequence, dead_sequence,
      counted, duplicates, repeated, dead_lettered)
    select flush_group, flush_topic, u.* from unnest(producer_partitions, producers, sequences, dead_sequences,
      counted, duplicates, repeated, dead_lettered) u
    on conflict (consumer_group, topic, partition, producer) do update set
      sequence = excluded.sequence, dead_sequence = excluded.dead_sequence, counted = excluded.counted,
      duplicates = excluded.duplicates, repeated = excluded.repeated, dead_lettered = excluded.dead_lettered;
  end if;
  if cardinality(report_producers) > 0 then
    insert into producer_report as r (consumer_group, topic, producer, accepted, pending, dropped, final,
      reported_at, log_epoch)
    select distinct on (u.producer) flush_group, flush_topic, u.producer, u.accepted, u.pending, u.dropped, u.final,
      u.reported_at, (select max(e) from unnest(epochs) e)
    from unnest(report_producers, accepted, pending, dropped, finals, reported_ats) with ordinality
      as u(producer, accepted, pending, dropped, final, reported_at, place)
    order by u.producer, u.accepted desc, u.place desc
    on conflict (consumer_group, topic, producer) do update set
      accepted = excluded.accepted, pending = excluded.pending, dropped = excluded.dropped, final = excluded.final,
      reported_at = excluded.reported_at, log_epoch = excluded.log_epoch, log_ends = null, judged_at = null
    -- A report that was resent is older than what is known.
    where excluded.accepted >= r.accepted and excluded.reported_at >= r.reported_at;
  end if;
  if cardinality(requeued_offsets) > 0 then
    update dead_letter d set counted_at = now()
    from unnest(requeued_epochs, requeued_topics, requeued_partitions, requeued_offsets) q(epoch, topic, partition, log_offset)
    where d.topic = q.topic and d.partition = q.partition and d.log_offset = q.log_offset
      and d.log_epoch = q.epoch and d.counted_at is null;
    get diagnostics counted_rows = row_count;
    if counted_rows <> cardinality(requeued_offsets) then
      raise exception 'a requeued dead letter was counted before' using errcode = 'MM002';
    end if;
  end if;
end $$;
