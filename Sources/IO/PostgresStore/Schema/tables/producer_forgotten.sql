-- The number of producers that were dropped with their counts, because no report by them was known.
-- The ledger of a producer that was heard at that time may be incomplete, so it reports no loss.
create table producer_forgotten (
  consumer_group text collate "C" not null,
  topic text collate "C" not null,
  partition int not null,
  producers bigint not null,
  first_at timestamptz not null default now(),
  last_at timestamptz not null default now(),
  primary key (consumer_group, topic, partition)
) with (fillfactor = 50);
