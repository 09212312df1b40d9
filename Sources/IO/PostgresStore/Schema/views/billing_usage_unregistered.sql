-- Usage of unregistered licenses. It is counted, but nobody is billed for it.
create view billing_usage_unregistered as
select u.license_id, u.meter, u.bucket_start, u.quantity, u.event_count
from usage_by_day u where not exists (select from license l where l.license_id = u.license_id);
