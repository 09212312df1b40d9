-- The period that contains a day, by the same rule as usage_by_period.
create function period_of(license text, day date) returns table (first_day date, end_day date) language sql stable as $$
  select greatest(last_anchor(day, coalesce(a.anchor_day, 1)), a.effective_from),
    least(next_anchor(day, coalesce(a.anchor_day, 1)), n.effective_from)
  from (select) one
  left join lateral (
    select anchor_day, nullif(effective_from, '-infinity') as effective_from from license_billing_anchor b
    where b.license_id = license and b.effective_from <= day order by b.effective_from desc limit 1) a on true
  left join lateral (
    select b.effective_from from license_billing_anchor b
    where b.license_id = license and b.effective_from > day order by b.effective_from limit 1) n on true
$$;
