-- The anchor days of a license's periods, with their first days. A change begins at the first
-- anchor date of the new day, which makes one short period and never moves a period that has ended.
create table license_billing_anchor (
  license_id text collate "C" not null references license on delete cascade,
  effective_from date not null,
  anchor_day int not null check (anchor_day between 1 and 31),
  primary key (license_id, effective_from)
);

create trigger license_anchor_changed after insert or update or delete on license_billing_anchor for each row
  execute function license_limits_changed();

create trigger usage_anchor_added after insert on license_billing_anchor
  referencing new table as changed for each statement execute function usage_anchors_changed();

create trigger usage_anchor_gone after delete on license_billing_anchor
  referencing old table as changed for each statement execute function usage_anchors_changed();

create trigger usage_anchor_updated after update on license_billing_anchor
  referencing old table as before new table as after
  for each statement execute function usage_anchors_updated();

create trigger license_anchors_lock before insert or update or delete on license_billing_anchor
  for each statement execute function license_anchors_lock();

create trigger license_anchor_guard before insert or update or delete on license_billing_anchor
  for each row execute function license_anchor_guard();
