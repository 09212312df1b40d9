create table import_batch (
  batch text primary key,
  file_hash text unique not null,
  file_name text not null,
  format text not null,
  options jsonb not null default '{}',
  oldest_time timestamptz not null,
  producer text not null,
  status text not null default 'running' check (status in ('running', 'finished')),
  lines_read bigint not null default 0,
  events_sent bigint not null default 0,
  lines_rejected bigint not null default 0,
  started_at timestamptz not null default now(),
  finished_at timestamptz
);
