create function license_anchors_lock() returns trigger language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(close_lock_key());
  return null;
end $$;
