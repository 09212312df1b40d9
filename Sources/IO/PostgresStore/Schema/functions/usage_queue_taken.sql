-- Where a session took the last row of a queue. The next walk begins so far before it that backends
-- which still fill the pages that they have begun are not passed by.
create function usage_queue_taken(queue text, place tid) returns void language plpgsql as $$
begin
  if place is null then return; end if;
  perform set_config('metering.' || queue || '_start',
    format('(%s,0)', greatest((place::text::point)[0]::bigint - 1024, 0)), false);
end $$;
