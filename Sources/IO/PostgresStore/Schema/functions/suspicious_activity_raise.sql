-- Raises alerts. Each is an object with license_id, occurred_at (milliseconds), dedupe_key, data
-- and evidence. Everybody who reads the same part of the log again raises the same keys, which
-- changes nothing. They are processed in the order of their keys, so that two calls with the same
-- keys cannot deadlock.
--
-- A burst is also recognized by its time. Events that came out of order may make it clear a minute
-- sooner for a reader that gets them together. A different burst cannot follow within the hour of
-- its cool-down.
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
