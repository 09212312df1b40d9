create table license (
  license_id text collate "C" primary key,
  customer_id text not null references customer,
  plan text not null,
  features text[] not null default '{}',
  domains text[] not null default '{}',
  seats int,
  trial boolean not null default false,
  status text not null default 'active' check (status in ('active', 'suspended', 'canceled')),
  overage_policy text not null default 'block' check (overage_policy in ('block', 'allow')),
  alert_thresholds int[] not null default '{80,100}',
  issued_at timestamptz not null,
  expires_at timestamptz not null,
  billing_anchor_day int not null default 1 check (billing_anchor_day between 1 and 31),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

create index license_by_customer on license (customer_id);

create index license_by_domain on license using gin (domains);

create index license_by_expiry on license (expires_at) where status = 'active';

create trigger license_thresholds_changed after update on license for each row
  when (old.alert_thresholds is distinct from new.alert_thresholds) execute function license_limits_changed();

create trigger license_inserted after insert on license referencing new table as changed
  for each statement execute function license_notify();

create trigger license_updated after update on license referencing new table as changed
  for each statement execute function license_notify();

create trigger license_deleted after delete on license referencing old table as changed
  for each statement execute function license_notify();

create trigger usage_license_added after insert on license
  referencing new table as changed for each statement execute function usage_license_added();

create trigger usage_license_gone after delete on license
  referencing old table as changed for each statement execute function usage_license_gone();

create trigger usage_license_moved after update on license
  referencing old table as before new table as after
  for each statement execute function usage_license_moved();
