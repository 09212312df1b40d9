create table webhook_endpoint (
  endpoint_id text collate "C" primary key,
  -- Null for the vendor's endpoints, which get the alerts of all customers.
  customer_id text references customer,
  url text not null check (length(url) between 1 and 2048),
  -- Types of alerts; empty or '*' for all.
  events text[] not null default '{}',
  status text not null default 'active' check (status in ('active', 'disabled')),
  disabled_reason text,
  disabled_at timestamptz,
  signing text not null default 'v1' check (signing in ('v1', 'v1a')),
  -- The circuit breaker, which all dispatchers share: the failures since the last success, the
  -- first of them, and the time until which nothing is sent except one probe at that moment.
  consecutive_failures int not null default 0 check (consecutive_failures >= 0),
  failing_since timestamptz,
  open_until timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint webhook_endpoint_disabled_has_time check ((status = 'disabled') = (disabled_at is not null)),
  constraint webhook_endpoint_disabled_has_reason check (status = 'active' or disabled_reason is not null),
  constraint webhook_endpoint_failures_have_a_start check ((consecutive_failures = 0) = (failing_since is null)),
  constraint webhook_endpoint_open_after_failures check (open_until is null or consecutive_failures > 0)
) with (fillfactor = 70);

create index webhook_endpoint_by_customer on webhook_endpoint (customer_id);
