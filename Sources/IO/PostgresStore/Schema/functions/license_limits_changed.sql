create function license_limits_changed() returns trigger language plpgsql as $$
begin
  perform limit_mark(l.license_id, l.meter) from license_limit l
  where l.license_id = case when tg_op = 'DELETE' then old.license_id else new.license_id end
  order by l.meter;
  return null;
end $$;
