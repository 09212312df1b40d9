-- Creates the role billing_reader for people who use SQL. It may read the views billing_* and nothing else.
-- Run this as the owner of the schema, after `meterctl migrate`. It can be run again.
--
--   psql "$METER_DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/billing-reader.sql
--   psql "$METER_DATABASE_URL" -c "create role alice login password '…' in role billing_reader"
--
-- A view reads with its owner's rights, so its readers need none on the tables: secrets, hashes of
-- tokens, sessions and payloads of events stay out of reach. The functions that a view calls are
-- called with its reader's rights. deploy/roles.sql takes them and the right to connect from
-- everybody, so they are granted here. The two files may be run in any order.
begin;

do $$
begin
  if not exists (select from pg_roles where rolname = 'billing_reader') then
    create role billing_reader nologin;
  end if;
  execute format('grant connect on database %I to billing_reader', current_database());
end $$;

grant usage on schema public to billing_reader;
grant select on billing_customer, billing_license, billing_usage_by_period, billing_usage_by_day,
  billing_usage_by_hour, billing_usage_unregistered to billing_reader;
grant execute on function anchor_date(date, int), last_anchor(date, int), next_anchor(date, int)
  to billing_reader;

commit;
