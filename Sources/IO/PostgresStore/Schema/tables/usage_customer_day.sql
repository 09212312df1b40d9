create table usage_customer_day (
  -- Empty: licenses that nobody registered.
  customer_id text not null,
  meter text collate "C" not null,
  day date not null,
  -- Numeric, because many licenses whose days each fit 64 bits need not fit together.
  quantity numeric not null,
  event_count bigint not null,
  primary key (customer_id, meter, day)
) with (fillfactor = 70);
