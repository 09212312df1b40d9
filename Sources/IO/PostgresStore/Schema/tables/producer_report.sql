create table producer_report (
  consumer_group text not null,
  topic text not null,
  producer text collate "C" not null,
  accepted bigint not null,
  pending bigint not null,
  dropped bigint not null,
  final boolean not null,
  reported_at timestamptz not null,
  -- The log end of every partition after the report had arrived; null until it was looked up.
  log_ends bigint[],
  log_epoch int not null,
  judged_at timestamptz,
  first_reported_at timestamptz not null default now(),
  primary key (consumer_group, topic, producer)
) with (fillfactor = 70);
