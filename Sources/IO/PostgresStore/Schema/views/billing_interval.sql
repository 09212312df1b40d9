-- The first day and the last day (exclusive; null for ever) for which an anchor day applies. Days
-- before a license's first anchor, and licenses without one, follow the calendar month.
create view billing_interval as
select license_id, effective_from, anchor_day,
  lead(effective_from) over (partition by license_id order by effective_from) as until
from license_billing_anchor
union all
select license_id, '-infinity', 1, min(effective_from) from license_billing_anchor
group by license_id having min(effective_from) > '-infinity';
