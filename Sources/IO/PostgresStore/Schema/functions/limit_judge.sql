-- Raises alerts for what a state has reached. The limit is part of the key, so that a raised limit
-- alerts again, and the same limit never does.
create function limit_judge(license text, of_meter text, start date, evidence jsonb) returns void language plpgsql as $$
declare
  s limit_state;
  percent bigint;
begin
  select * into s from limit_state where license_id = license and meter = of_meter and period_start = start for no key update;
  -- There are no alerts for periods that ended more than a week ago.
  if not found or s.period_end < (now() at time zone 'UTC')::date - 7 then return; end if;
  for percent in
    select t from unnest(s.thresholds) t
    where t > 0 and (s.limit_quantity > 0 or t >= 100) and s.used > 0
      and s.used::numeric * 100 >= s.limit_quantity::numeric * t
    union
    -- If one merge passes several further hundreds, only the highest is reported.
    select (floor(s.used::numeric / nullif(s.limit_quantity, 0)) * 100)::bigint
    where s.limit_quantity > 0 and 100 <= any (s.thresholds) and s.used::numeric / nullif(s.limit_quantity, 0) >= 2
      and s.used::numeric / nullif(s.limit_quantity, 0) < 1e15
    order by 1
  loop
    perform alert_raise(
      case when percent >= 100 then 'license.limit_exceeded' else 'license.limit_approaching' end,
      license, now(),
      jsonb_build_object('meter', of_meter, 'limit', s.limit_quantity, 'used', s.used, 'threshold_percent', percent,
        'period_start', to_char(s.period_start, 'YYYY-MM-DD"T00:00:00Z"'),
        'period_end', to_char(s.period_end, 'YYYY-MM-DD"T00:00:00Z"')),
      concat_ws('/', 'license.limit', license, of_meter, s.period_start, s.limit_quantity, percent), evidence);
  end loop;
  update limit_state set next_quantity = limit_next_quantity(s.limit_quantity, s.thresholds, s.used)
  where license_id = license and meter = of_meter and period_start = start;
end $$;
