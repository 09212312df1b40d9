-- Rows of licenses whose numbers no longer fit. A merge sets them aside whole. They count nowhere,
-- and none is lost.
create table usage_quarantine (like usage_pending, quarantined_at timestamptz not null default now());
