create function limit_mark(license text, changed_meter text) returns void language sql as $$
  insert into limit_change as c (license_id, meter) values (license, changed_meter)
  on conflict (license_id, meter) do update set marks = c.marks + 1
$$;
