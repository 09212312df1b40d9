create table consumer_offset (
  consumer_group text not null,
  topic text not null,
  partition int not null,
  next_offset bigint not null,
  log_epoch int not null default 1,
  last_record_offset bigint,
  last_record_hash bigint,
  updated_at timestamptz not null default now(),
  -- The process that owns the partition: a flush of any other is refused, even if the offset still fits.
  claimed_by text,
  primary key (consumer_group, topic, partition)
) with (fillfactor = 50);
