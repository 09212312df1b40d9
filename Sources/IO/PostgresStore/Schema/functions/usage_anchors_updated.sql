create function usage_anchors_updated() returns trigger language plpgsql as $$
begin
  perform usage_periods_remake((
    select array_agg(distinct license_id)
    from (select license_id from before union select license_id from after) c));
  return null;
end $$;
