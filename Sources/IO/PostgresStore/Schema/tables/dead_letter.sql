create table dead_letter (
  topic text not null,
  partition int not null,
  log_offset bigint not null,
  log_epoch int not null,
  consumer_group text not null,
  reason text not null,
  detail text not null,
  payload bytea,
  record_key bytea,
  received_at timestamptz not null default now(),
  forwarded_at timestamptz,
  requeued_at timestamptz,
  counted_at timestamptz,
  forward_attempts int not null default 0,
  -- The earliest time; null means immediately.
  forward_after timestamptz,
  -- The record's part of the log is lost, and the log was read on from this offset. Records from
  -- there on come after the letter, and one of them may have its offset.
  lost_from bigint
);

-- The index is deliberately not unique: a unique key would make a flush wait for the open
-- transaction of a stopped process. The compare-and-set of the offset in the same transaction makes
-- each row the only one.
create index dead_letter_by_place on dead_letter (topic, partition, log_offset, log_epoch);

create index dead_letter_by_time on dead_letter (received_at);

create index dead_letter_to_forward on dead_letter (received_at) where forwarded_at is null;
