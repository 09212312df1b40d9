create function usage_license_gone() returns trigger language plpgsql as $$
begin
  perform usage_customers_move(array_agg(license_id), array_agg(customer_id), array_agg(null::text))
  from changed having count(*) > 0;
  return null;
end $$;
