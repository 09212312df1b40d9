create function limit_changed() returns trigger language plpgsql as $$
begin
  if tg_op <> 'INSERT' then perform limit_mark(old.license_id, old.meter); end if;
  if tg_op <> 'DELETE' then perform limit_mark(new.license_id, new.meter); end if;
  return null;
end $$;
