-- Usage that is merged but not in the totals, and pending usage. The totals and these rows together
-- are complete.
create or replace view usage_unfolded as
select license_id, meter, day, quantity, event_count from usage_delta
union all
select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count from usage_unmerged;
