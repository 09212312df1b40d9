-- The closed periods. Rows are added and never changed.
create table usage_period_closed (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  period_start date not null,
  period_end date not null,
  -- Without adjustments: the sum of the period's days when it was closed.
  quantity bigint not null,
  event_count bigint not null,
  -- The license's limit of the meter at the close; null if it was unlimited.
  included bigint,
  -- The excess over the limit, including the manual adjustments of this period that were recorded
  -- before.
  overage bigint not null,
  -- The customer that the license belonged to; null if it had none.
  customer_id text,
  closed_at timestamptz not null,
  -- There is no reference, because checking each row would double the cost of a close.
  close_id bigint not null,
  -- The customer's name and the license's domains at the close, for statements. Both are null if the
  -- period was closed before schema 37.
  customer_name text,
  bound_domains text[],
  constraint usage_period_closed_ends_later check (period_start < period_end),
  primary key (license_id, meter, period_start)
);

create index usage_period_closed_by_customer on usage_period_closed (customer_id, period_end);

-- Pages of a customer's periods are in this order.
create index usage_period_closed_in_order
  on usage_period_closed (customer_id, license_id, meter, period_start);

create index usage_period_closed_by_end on usage_period_closed (period_end);

create trigger usage_period_closed_is_final before update or delete or truncate
  on usage_period_closed for each statement execute function billing_row_is_final();
