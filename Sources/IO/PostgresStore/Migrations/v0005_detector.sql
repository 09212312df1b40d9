-- What the anomaly detector remembers of each partition, and how its findings become alerts.

update schema_version set version = 5;

-- A partition's state as of `next_offset`, in pieces of at most 1 MiB, opaque to SQL. A checkpoint appends the new pieces and removes the old
-- in the transaction that moves the offset, so that there is never a state of one offset beside another. Not unique on purpose: see
-- dead_letter_by_place.
create table detector_state (
  consumer_group text not null,
  topic text not null,
  partition int not null,
  log_epoch int not null,
  next_offset bigint not null,
  piece int not null,
  state bytea not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
create index detector_state_by_partition on detector_state (consumer_group, topic, partition);
-- Counts and levels do not compress, and trying costs more than it saves.
alter table detector_state alter column state set storage external;

-- Removes what older checkpoints left of these partitions.
create function detector_state_settle(
  settled_group text, settled_topic text, partitions int[], epochs int[], offsets bigint[]
) returns void language sql as $$
  delete from detector_state s
  using unnest(partitions, epochs, offsets) as n(partition, log_epoch, next_offset)
  where s.consumer_group = settled_group and s.topic = settled_topic and s.partition = n.partition
    and (s.log_epoch, s.next_offset) is distinct from (n.log_epoch, n.next_offset)
$$;

-- Raises alerts, an object each: license_id, occurred_at (milliseconds), dedupe_key, data, evidence. Whoever reads the same part of the log
-- again raises the same keys, which changes nothing. In the order of the keys: two that raise the same ones must not deadlock.
--
-- A burst is also known by its time: events that came out of order may make it clear a minute sooner to whoever reads them together. A real one
-- cannot follow another within the hour of its cool-down.
create function suspicious_activity_raise(findings jsonb) returns bigint language plpgsql as $$
declare
  f jsonb;
  happened timestamptz;
  raised bigint := 0;
begin
  for f in select e from jsonb_array_elements(findings) e order by e->>'dedupe_key' loop
    happened := to_timestamp((f->>'occurred_at')::float8 / 1000);
    if f->'data'->>'reason' = 'burst' then
      perform pg_advisory_xact_lock(hashtextextended('burst/' || (f->>'license_id'), 0));
      if exists (
        select from alert a
        where a.license_id = f->>'license_id' and a.type = 'license.suspicious_activity' and a.data->>'reason' = 'burst'
          and a.occurred_at > happened - interval '1 hour' and a.occurred_at < happened + interval '1 hour')
      then continue; end if;
    end if;
    if alert_raise('license.suspicious_activity', f->>'license_id', happened, f->'data', f->>'dedupe_key', f->'evidence') is not null then
      raised := raised + 1;
    end if;
  end loop;
  return raised;
end $$;
