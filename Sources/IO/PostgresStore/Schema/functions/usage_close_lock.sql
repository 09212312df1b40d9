-- Lets no other close and no change of an anchor begin, and creates the table of what will be closed:
-- whole licenses from closed_from to boundary, or one meter of one license.
create function usage_close_lock() returns void language plpgsql as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'a close must see what was merged before it: use READ COMMITTED';
  end if;
  perform pg_advisory_xact_lock(close_lock_key());
  create temp table if not exists closing (
    license_id text collate "C" primary key, meter text collate "C", customer_id text,
    closed_from date not null, boundary date not null) on commit delete rows;
  create temp table if not exists closing_period (
    license_id text collate "C", meter text collate "C", period_start date, period_end date,
    quantity bigint not null, event_count bigint not null,
    primary key (license_id, meter, period_start)) on commit delete rows;
  create temp table if not exists closing_late (
    license_id text collate "C", meter text collate "C", period_start date, invoiced date,
    quantity bigint not null, event_count bigint not null) on commit delete rows;
  create temp table if not exists merging (like usage_pending) on commit delete rows;
end $$;
