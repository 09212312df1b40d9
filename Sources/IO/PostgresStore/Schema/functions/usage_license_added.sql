create function usage_license_added() returns trigger language plpgsql as $$
begin
  perform usage_customers_move(array_agg(license_id), array_agg(null::text), array_agg(customer_id))
  from changed having count(*) > 0;
  return null;
end $$;
