-- The consumer that owns a partition writes its row when it stops reading the partition, and
-- deletes it when it goes on. The operator's commands (new-epoch, accept-gap, grow) delete it as
-- well, because they remove the cause.
create table partition_halt (
  consumer_group text collate "C" not null,
  topic text collate "C" not null,
  partition int not null,
  reason text not null,
  -- The command that ends the halt; null if the cause must end by itself.
  remedy text,
  halted_at timestamptz not null default now(),
  primary key (consumer_group, topic, partition)
);
