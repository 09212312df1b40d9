-- The meter events of exported hours. An event is stored before it is sent, and in_doubt_since is
-- set before each try. Whatever ends the sender, it is known what may have arrived.
create table stripe_export_event (
  identifier text collate "C" primary key,
  customer_id text collate "C" not null,
  meter text collate "C" not null,
  hour timestamptz not null,
  revision bigint not null,
  value bigint not null constraint stripe_export_event_has_15_digits check (value between 0 and 999999999999999),
  state text not null default 'open' constraint stripe_export_event_has_known_state check (state in
    ('open', 'accepted', 'refused', 'lost', 'unsettled')),
  attempts bigint not null default 0,
  -- The time since which Stripe may have it without our knowing. Stripe keeps identifiers for 24
  -- hours, and until then it may be sent again.
  in_doubt_since timestamptz,
  error text,
  created_at timestamptz not null default now(),
  settled_at timestamptz,
  foreign key (customer_id, meter, hour) references stripe_export on delete cascade,
  constraint stripe_export_event_open_or_settled check ((state = 'open') = (settled_at is null))
);

create index stripe_export_event_by_hour on stripe_export_event (customer_id, meter, hour, revision desc);

-- An hour has at most one open event.
create unique index stripe_export_event_open on stripe_export_event (hour, customer_id, meter) where state = 'open';
