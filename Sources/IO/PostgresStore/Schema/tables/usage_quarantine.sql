-- Rows of licenses whose numbers no longer fit, set aside whole by a merge: counted nowhere, lost nowhere.
create table usage_quarantine (like usage_pending, quarantined_at timestamptz not null default now());
