-- A manual adjustment counts like usage of its period: the sweep computes the license's state
-- again.
create function usage_adjustment_counts() returns trigger language plpgsql as $$
begin
  perform limit_mark(m.license_id, m.meter) from (
    select distinct license_id, meter from added where kind = 'manual' order by 1, 2) m;
  return null;
end $$;
