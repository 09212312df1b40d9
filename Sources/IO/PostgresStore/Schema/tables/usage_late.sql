-- Usage that merges have added to closed periods since their close, and how much of it is on the
-- invoice of a later period that is closed too (recorded_…, in usage_adjustment_entry).
create table usage_late (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  period_start date not null,
  period_end date not null,
  quantity bigint not null,
  event_count bigint not null,
  recorded_quantity bigint not null default 0,
  recorded_event_count bigint not null default 0,
  -- The parts by domain and feature, in the form of usage_day, as long as closed_domains is null.
  dimensions text not null,
  dimensions_compacted int not null default 0,
  -- When the first part that is not recorded was merged.
  since timestamptz not null default now(),
  -- What the period showed by domain when it was closed, kept before the first late usage was
  -- merged: [domain, quantity, event_count] joined by commas. Null if that was before schema 37.
  closed_domains text,
  primary key (license_id, meter, period_start)
) with (fillfactor = 70);

create index usage_late_open on usage_late (license_id)
  where quantity <> recorded_quantity or event_count <> recorded_event_count;
