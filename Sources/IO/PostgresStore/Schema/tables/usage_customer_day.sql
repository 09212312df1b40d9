create table usage_customer_day (
  -- Empty for unregistered licenses.
  customer_id text not null,
  meter text collate "C" not null,
  day date not null,
  -- Numeric, because the sum of many licenses may not fit 64 bits even if each day does.
  quantity numeric not null,
  event_count bigint not null,
  primary key (customer_id, meter, day)
) with (fillfactor = 70);
