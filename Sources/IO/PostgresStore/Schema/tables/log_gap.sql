create table log_gap (
  consumer_group text not null,
  topic text not null,
  partition int not null,
  log_epoch int not null,
  first_offset bigint not null,
  last_offset bigint not null,
  reason text not null,
  accepted_by text not null,
  accepted_at timestamptz not null default now()
);
