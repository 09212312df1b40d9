-- Notes where a session took the last row of a queue. The next walk begins far enough before it to
-- include rows of backends that still fill the pages which they have begun.
create function usage_queue_taken(queue text, place tid) returns void language plpgsql as $$
begin
  if place is null then return; end if;
  perform set_config('metering.' || queue || '_start',
    format('(%s,0)', greatest((place::text::point)[0]::bigint - 1024, 0)), false);
end $$;
