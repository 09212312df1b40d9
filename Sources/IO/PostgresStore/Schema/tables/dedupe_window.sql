-- The size of the dedupe window, with the offset from which it applies. Duplicates thus remain a
-- function of the log.
create table dedupe_window (
  consumer_group text not null,
  topic text not null,
  partition int not null,
  log_epoch int not null,
  from_offset bigint not null,
  window_offsets int not null check (window_offsets > 0),
  primary key (consumer_group, topic, partition, log_epoch, from_offset)
);
