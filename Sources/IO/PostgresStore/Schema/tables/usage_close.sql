-- One row for each time that somebody closed periods.
create table usage_close (
  close_id bigint generated always as identity primary key,
  began_at timestamptz not null default now(),
  -- Null: it runs, or it was cut off. What it closed stays closed; the next close closes the rest.
  finished_at timestamptz,
  closed_by text not null,
  -- Periods that end on this day or before it, UTC.
  ending_before date not null,
  -- Null: of all customers.
  customer_id text,
  -- The one period that was asked for; null: all of them.
  period_id text,
  forced boolean not null default false,
  reason text,
  -- What stood against the close when it began.
  blockers jsonb not null default '[]',
  closed bigint not null default 0,
  already_closed bigint not null default 0,
  constraint usage_close_by_force_has_a_reason check (not forced or reason <> '')
);
