-- Totals contain the days, so late usage is subtracted. The rest is what usage_by_period says.
create view usage_late_total as
select license_id, meter, period_start, period_end, quantity, event_count from usage_late
union all
select license_id, meter, period_start, period_end, quantity, event_count from usage_late_pending;
