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
  -- The parts by domain and feature, in the form of usage_day. A statement leaves them out.
  dimensions text not null,
  dimensions_compacted int not null default 0,
  -- When the first part that is not recorded was merged.
  since timestamptz not null default now(),
  primary key (license_id, meter, period_start)
) with (fillfactor = 70);

create index usage_late_open on usage_late (license_id)
  where quantity <> recorded_quantity or event_count <> recorded_event_count;
