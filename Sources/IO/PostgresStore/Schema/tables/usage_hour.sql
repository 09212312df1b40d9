create table usage_hour (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  hour timestamptz not null,
  log_epoch int not null,
  partition int not null,
  first_offset bigint not null,
  last_offset bigint not null,
  quantity bigint not null,
  event_count bigint not null,
  minutes text not null,
  -- The length of minutes after they were last compacted. They are compacted again when it has
  -- doubled.
  minutes_compacted int not null default 0,
  written_at timestamptz not null default now(),
  primary key (license_id, meter, hour, log_epoch, partition)
) partition by range (hour);
