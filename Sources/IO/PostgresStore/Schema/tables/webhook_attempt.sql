create table webhook_attempt (
  delivery_id bigint not null references webhook_delivery on delete cascade,
  attempt int not null check (attempt > 0),
  at timestamptz not null,
  status_code int,
  -- A word for programs (docs/webhooks.md), followed by a colon and words for people.
  error text,
  duration_ms int not null check (duration_ms >= 0),
  -- The first 1 KiB of the answer's body.
  response bytea check (length(response) <= 1024),
  primary key (delivery_id, attempt),
  constraint webhook_attempt_has_status_or_error check (status_code is not null or error is not null)
);
