-- The place from which to walk over a queue whose rows are appended at its end. It is null if the
-- queue is small and walked over whole. While a reader's transaction is open, nothing can remove
-- dead rows, and a large queue consists mostly of them. A session therefore begins where it found
-- the last rows. It walks over the whole queue only every ten seconds, for rows that were put into
-- free room before that. Rows that it passes by are late, but no number depends on that, because
-- rows wait where every reader adds them.
create function usage_queue_start(queue text) returns tid language plpgsql as $$
declare
  pages bigint := pg_relation_size(queue::regclass) / current_setting('block_size')::bigint;
  place tid := nullif(current_setting('metering.' || queue || '_start', true), '');
  walked double precision := nullif(current_setting('metering.' || queue || '_walked', true), '');
  present double precision := extract(epoch from clock_timestamp());
begin
  if pages <= 8192 then return null; end if;
  if place is not null and (place::text::point)[0] < pages
    and walked > present - 10 and walked <= present
  then return place; end if;
  perform set_config('metering.' || queue || '_walked', present::text, false);
  return '(0,0)';
end $$;
