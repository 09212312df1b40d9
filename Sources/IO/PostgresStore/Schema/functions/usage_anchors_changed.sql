create function usage_anchors_changed() returns trigger language plpgsql as $$
begin
  perform usage_periods_remake((select array_agg(distinct license_id) from changed));
  return null;
end $$;
