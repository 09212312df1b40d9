-- One row for each close of periods.
create table usage_close (
  close_id bigint generated always as identity primary key,
  began_at timestamptz not null default now(),
  -- Null while it runs, or if it was cut off. What it closed stays closed, and the next close
  -- closes the rest.
  finished_at timestamptz,
  closed_by text not null,
  -- Periods that end on or before this day (UTC).
  ending_before date not null,
  -- Null for all customers.
  customer_id text,
  -- The one requested period; null for all of them.
  period_id text,
  forced boolean not null default false,
  reason text,
  -- The obstacles to the close when it began.
  blockers jsonb not null default '[]',
  closed bigint not null default 0,
  already_closed bigint not null default 0,
  constraint usage_close_by_force_has_a_reason check (not forced or reason <> '')
);
