-- Totals of days from before this migration are made after it, license by license.
create table usage_total_state (
  only_row boolean primary key default true
    constraint usage_total_state_is_one_row check (only_row),
  -- The totals of licenses up to this one (in the order of bytes) are made.
  made_through text collate "C" not null default '',
  is_complete boolean not null default false,
  -- Merges that began before this migration add no deltas, so nothing is made before they have
  -- ended.
  installed_by xid8 not null default pg_current_xact_id()
);
