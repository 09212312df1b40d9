-- What is merged and not in the totals, and what is pending. The totals and these add up.
create or replace view usage_unfolded as
select license_id, meter, day, quantity, event_count from usage_delta
union all
select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count from usage_unmerged;
