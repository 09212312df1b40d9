create table alert (
  alert_id bigint generated always as identity primary key,
  type text not null check (type ~ '^[a-z][a-z0-9_]*([.][a-z0-9_]+)+$'),
  -- There are no foreign keys, because events of unregistered licenses are judged too, and an alert
  -- outlives its subject.
  license_id text collate "C",
  customer_id text,
  occurred_at timestamptz not null,
  data jsonb not null check (jsonb_typeof(data) = 'object'),
  -- There is at most one alert for each cause, however often its events are read.
  dedupe_key text collate "C" not null unique check (octet_length(dedupe_key) between 1 and 500),
  -- Where in the log the cause is (epoch, partition, offsets). It is never part of a webhook.
  evidence jsonb,
  created_at timestamptz not null default now()
);

create index alert_by_license on alert (license_id, occurred_at);

create index alert_by_customer on alert (customer_id, occurred_at);

create index alert_by_time on alert (occurred_at);
