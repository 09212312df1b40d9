-- How far the periods of each license are closed. Days before closed_through are closed for every
-- meter, even if usage_period_closed has no row for them. Periods that were closed alone, for one
-- meter, may be after it. No change of an anchor moves anything before frozen_through.
create table license_closing (
  license_id text collate "C" primary key,
  closed_through date not null default '-infinity',
  frozen_through date not null,
  close_id bigint not null,
  closed_at timestamptz not null,
  constraint license_closing_freezes_what_it_closes check (closed_through <= frozen_through)
) with (fillfactor = 70);

create index license_closing_by_end on license_closing (frozen_through);
