create table producer_sequence (
  consumer_group text not null,
  topic text not null,
  partition int not null,
  producer text collate "C" not null,
  sequence bigint not null,
  dead_sequence bigint not null,
  counted bigint not null,
  duplicates bigint not null,
  repeated bigint not null,
  dead_lettered bigint not null,
  -- A fixed default, so that the table is not rewritten.
  last_offset bigint not null default -1,
  -- The sequences are no longer remembered. The counts stay for the ledger.
  forgotten boolean not null default false,
  primary key (consumer_group, topic, partition, producer)
) with (fillfactor = 50);

create index producer_sequence_by_producer on producer_sequence (consumer_group, topic, producer);
