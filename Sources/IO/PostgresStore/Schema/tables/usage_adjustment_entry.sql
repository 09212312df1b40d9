-- Final adjustments. Rows are added and never changed: a mistake gets a counter-entry.
create table usage_adjustment_entry (
  entry bigint generated always as identity primary key,
  adjustment_id text collate "C" not null unique,
  license_id text collate "C" not null,
  meter text collate "C" not null,
  applies_to_period_start date not null,
  invoiced_period_start date not null,
  kind text not null check (kind in ('late', 'manual')),
  quantity bigint not null
    check (quantity between -5000000000000000000 and 5000000000000000000),
  event_count bigint not null,
  reason text not null,
  recorded_by text not null,
  idempotency_key text,
  recorded_at timestamptz not null default now(),
  -- The adjustment that this one reverses.
  reverses text collate "C" unique references usage_adjustment_entry (adjustment_id),
  constraint usage_adjustment_by_hand_is_bounded check (
    kind = 'late' or reverses is not null or quantity between -100000000000000000 and 100000000000000000
      and event_count between -100000000000000000 and 100000000000000000),
  constraint usage_adjustment_by_hand_has_a_reason check (kind = 'late' or reason <> ''),
  constraint usage_adjustment_is_invoiced_not_before_its_period check (
    invoiced_period_start >= applies_to_period_start)
);

create index usage_adjustment_by_license
  on usage_adjustment_entry (license_id, meter, invoiced_period_start);

create unique index usage_adjustment_once on usage_adjustment_entry (recorded_by, idempotency_key)
  where idempotency_key is not null;

create trigger usage_adjustment_is_final before update or delete or truncate
  on usage_adjustment_entry for each statement execute function billing_row_is_final();

create trigger usage_adjustment_counts after insert on usage_adjustment_entry
  referencing new table as added for each statement execute function usage_adjustment_counts();
