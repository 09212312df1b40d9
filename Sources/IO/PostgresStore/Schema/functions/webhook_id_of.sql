create function webhook_id_of(dedupe_key text, endpoint_id text) returns text
language sql immutable strict parallel safe as $$
  select 'msg_' || left(encode(sha256(convert_to(dedupe_key || E'\x1f' || endpoint_id, 'UTF8')), 'hex'), 32)
$$;
