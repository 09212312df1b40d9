create function api_token_notify() returns trigger language plpgsql as $$
begin
  perform pg_notify('api_token', '');
  return null;
end $$;
