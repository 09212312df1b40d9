create function usage_license_moved() returns trigger language plpgsql as $$
begin
  perform usage_customers_move(array_agg(a.license_id), array_agg(b.customer_id),
    array_agg(a.customer_id))
  from before b join after a using (license_id)
  where a.customer_id is distinct from b.customer_id having count(*) > 0;
  return null;
end $$;
