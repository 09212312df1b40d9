create function audit_log_refuse() returns trigger language plpgsql as $$
begin
  raise exception 'audit_log is only ever added to' using errcode = 'insufficient_privilege';
end $$;
