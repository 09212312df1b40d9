-- The minutes of all hours. Read usage_hour_minutes to choose them by hour.
create view usage_by_minute as
select license_id, meter, bucket_start, quantity, event_count from usage_hour_minutes;
