-- Least-privilege roles: what each service may do in the database, and no more.
--
--   meterctl migrate                                                   as the owner of the database
--   psql "$METER_DATABASE_URL" -v ON_ERROR_STOP=1 -1 -f deploy/roles.sql    as the owner again, after every migrate
--
-- The owner needs CREATEROLE, or is a superuser. The roles below cannot log in. Each process gets its own login that is a
-- member of one of them, so that a password or certificate can be changed while others run:
--
--   create role aggregator_1 login password '…' in role meter_usage_aggregator;
--
-- How it works: a service reads and appends with plain grants. Whatever touches more than its own tables is a function that
-- runs with the owner's rights (security definer, with a fixed search_path). The service may call it and cannot reach the tables
-- behind it. Nobody but the owner may make temporary tables, because a function would find them instead of its own.
-- The file can be run any number of times. `create or replace function` in a migration takes `security definer` away again,
-- which is why it must be run after every migrate.

do $roles$
declare
  name text;
begin
  foreach name in array array['meter_usage_aggregator', 'meter_anomaly_detector', 'meter_webhook_dispatcher',
    'meter_validation_service', 'meter_metering_api', 'meter_operator', 'meter_reader']
  loop
    if not exists (select from pg_roles where rolname = name) then execute format('create role %I nologin', name); end if;
    execute format('revoke all on all tables in schema %I from %I', current_schema, name);
    execute format('revoke all on all sequences in schema %I from %I', current_schema, name);
    execute format('revoke all on all functions in schema %I from %I', current_schema, name);
    execute format('grant connect on database %I to %I', current_database(), name);
    execute format('grant usage on schema %I to %I', current_schema, name);
  end loop;
  execute format('revoke all on database %I from public', current_database());
  execute format('revoke create on schema %I from public', current_schema);
  execute format('revoke execute on all functions in schema %I from public', current_schema);
end $roles$;

-- Says who may call which function. A name stands for all functions of that name. A name that this schema does not have is skipped.
do $functions$
declare
  entry record;
  called record;
  consumers constant text := 'meter_usage_aggregator, meter_anomaly_detector';
begin
  for entry in select * from (values
      -- Run with the owner's rights.
      ('flush_producers', true, consumers),
      ('usage_month_make_next', true, consumers),
      ('usage_retain', true, consumers),
      ('limit_states_retain', true, consumers),
      ('audit_checkpoint_take', true, consumers),
      ('audit_checkpoint_retain', true, consumers),
      ('alert_retain', true, consumers),
      ('dead_letter_retain', true, consumers),
      ('producer_report_retain', true, consumers),
      ('usage_merge', true, 'meter_usage_aggregator'),
      ('usage_fold', true, 'meter_usage_aggregator'),
      ('limit_sweep', true, 'meter_usage_aggregator'),
      ('suspicious_activity_raise', true, 'meter_anomaly_detector'),
      ('usage_watch_choose', true, 'meter_anomaly_detector'),
      ('usage_watch_totals', true, 'meter_anomaly_detector'),
      ('usage_anomaly_raise', true, 'meter_anomaly_detector'),
      ('expiry_notices_raise', true, 'meter_webhook_dispatcher'),
      ('webhook_claim', true, 'meter_webhook_dispatcher'),
      ('webhook_traceparent', true, 'meter_webhook_dispatcher'),
      ('webhook_record', true, 'meter_webhook_dispatcher'),
      ('webhook_postpone', true, 'meter_webhook_dispatcher'),
      ('webhook_release', true, 'meter_webhook_dispatcher'),
      ('webhook_discard', true, 'meter_webhook_dispatcher'),
      ('webhook_endpoint_disable', true, 'meter_webhook_dispatcher'),
      -- Closing periods and correcting them: rows that nobody writes in another way.
      ('usage_close_next', true, 'meter_metering_api, meter_operator'),
      ('usage_close_one', true, 'meter_metering_api, meter_operator'),
      ('usage_adjust', true, 'meter_metering_api, meter_operator'),
      ('usage_adjustment_reverse', true, 'meter_metering_api, meter_operator'),
      -- Reads of running totals, and what views ask.
      ('usage_minutes', true, 'meter_reader, meter_metering_api, meter_operator'),
      ('customer_usage_by_day', true, 'meter_reader, meter_metering_api, meter_operator'),
      ('customer_usage_by_period', true, 'meter_reader, meter_metering_api, meter_operator'),
      ('usage_hour_gone', true, 'meter_usage_aggregator, meter_reader, meter_metering_api, meter_operator'),
      ('usage_in_periods_of', true, 'meter_reader, meter_metering_api, meter_operator'),
      -- Run with the caller's rights.
      ('usage_months_kept_out', false, consumers),
      ('flush_offsets', false, consumers),
      ('flush_reports', false, consumers),
      ('flush_requeued', false, consumers),
      ('flush_settled', false, consumers),
      ('flush_commit', false, consumers),
      ('detector_state_settle', false, 'meter_anomaly_detector')
    ) e(name, is_definer, roles)
  loop
    for called in
      select p.oid::regprocedure as signature from pg_proc p
      where p.pronamespace = current_schema::regnamespace and p.proname = entry.name
    loop
      if entry.is_definer then
        execute format('alter function %s security definer set search_path = %I, pg_temp', called.signature, current_schema);
      end if;
      execute format('grant execute on function %s to %s', called.signature, entry.roles);
    end loop;
  end loop;
  -- What views call is called by their reader: functions that compute and change nothing.
  for called in
    select p.oid::regprocedure as signature from pg_proc p
    where p.pronamespace = current_schema::regnamespace and p.provolatile in ('i', 's') and not p.prosecdef
      and p.prorettype <> 'trigger'::regtype
  loop
    execute format('grant execute on function %s to meter_usage_aggregator, meter_metering_api, meter_reader', called.signature);
  end loop;
end $functions$;

-- Every service asks whether the schema is one that it knows.
grant select on schema_version to meter_usage_aggregator, meter_anomaly_detector, meter_webhook_dispatcher,
  meter_validation_service, meter_metering_api, meter_operator, meter_reader;

-- The consumers of the log have their offsets, windows, producers and dead letters here.
grant select, insert, update on consumer_offset, producer_sequence, producer_report, dedupe_window, dead_letter
  to meter_usage_aggregator, meter_anomaly_detector;
grant select, insert, update, delete on partition_halt to meter_usage_aggregator, meter_anomaly_detector;
grant select on producer_forgotten, import_batch, partition_parent, log_gap to meter_usage_aggregator, meter_anomaly_detector;

grant select, insert on usage_pending to meter_usage_aggregator;
grant select on usage_delta, limit_state, limit_change, usage_by_day, producer_ledger, license to meter_usage_aggregator;

do $newer$
begin
  -- Of newer schemas.
  if to_regclass('usage_watch') is not null then
    grant select, insert, update, delete on usage_watch, usage_watch_series to meter_anomaly_detector;
  end if;
  if to_regclass('audit_checkpoint') is not null then
    grant select on audit_checkpoint to meter_usage_aggregator, meter_anomaly_detector;
  end if;
  if to_regclass('usage_pending_recent') is not null then
    grant select, insert on usage_pending_recent to meter_usage_aggregator;
  end if;
  if to_regclass('usage_trace') is not null then
    grant insert on usage_trace to meter_usage_aggregator;
    grant select (license_id, meter) on license_limit to meter_usage_aggregator;
  end if;
end $newer$;

grant select, insert, delete on detector_state to meter_anomaly_detector;
grant select (license_id, customer_id, domains, status) on license to meter_anomaly_detector;

-- The dispatcher opens the endpoints' secrets, which are stored encrypted. It sees no usage and no license.
grant select on webhook_secret to meter_webhook_dispatcher;
grant delete on webhook_secret to meter_webhook_dispatcher;
grant select on webhook_endpoint to meter_webhook_dispatcher;
grant update (consecutive_failures, failing_since, open_until, updated_at) on webhook_endpoint to meter_webhook_dispatcher;
grant select, delete on webhook_delivery to meter_webhook_dispatcher;

-- The validation service only reads.
grant select on license, license_limit, limit_state, api_token to meter_validation_service;

-- People, and the API of the billing team, read everything. They write what people decide, but never what was counted, nor what
-- the consumers remember of the log: a correction of usage is an adjustment. To the record of who changed what, they can only
-- add.
do $people$
declare
  place text;
  called record;
  -- Of the consumers and merges. `meterctl topics` changes the second list.
  counted constant text := '^(usage_(pending|merged|trace|appended|append_|delta|hour|meter_hour|day|license_period|customer_day|quarantine|total_state)|limit_(state|change)|schema_version)';
  remembered constant text := '^(consumer_offset|producer_|dedupe_window|detector_state|partition_|log_gap|import_batch|audit_checkpoint|usage_watch|usage_retention)';
begin
  execute format('grant select on all tables in schema %I to meter_metering_api, meter_operator', current_schema);
  execute format('grant usage on all sequences in schema %I to meter_metering_api, meter_operator', current_schema);
  for place in
    select c.relname from pg_class c
    where c.relnamespace = current_schema::regnamespace and c.relkind in ('r', 'p') and c.relname !~ counted
  loop
    if place ~ remembered then
      execute format('grant insert, update, delete on %I to meter_operator', place);
    elsif place ~ '^(audit_log|alert$)' then
      execute format('grant insert on %I to meter_metering_api, meter_operator', place);
    elsif place = 'dead_letter' then
      execute format('grant update (requeued_at) on %I to meter_metering_api, meter_operator', place);
    else
      execute format('grant insert, update, delete on %I to meter_metering_api, meter_operator', place);
    end if;
  end loop;
  for called in
    select p.oid::regprocedure as signature from pg_proc p
    where p.pronamespace = current_schema::regnamespace and p.prokind = 'f'
      and (not p.prosecdef or p.proname = 'webhook_endpoint_disable')
  loop
    execute format('grant execute on function %s to meter_metering_api, meter_operator', called.signature);
  end loop;
end $people$;

-- Reports and invoices use the relations of docs/schema.md, without secrets and without what is only storage.
grant select on customer, license, license_limit, license_billing_anchor, usage_by_minute, usage_hour_minutes, usage_by_hour,
  usage_by_day, usage_by_dimension_day, usage_by_period, usage_adjustment, usage_close, usage_provenance, producer_ledger, alert,
  dead_letter, consumer_offset, partition_halt, limit_state, import_batch, log_gap, webhook_endpoint, webhook_delivery, webhook_attempt to meter_reader;

-- The effects of a change of a license reach the totals and limits, which its author may not write. All trigger functions
-- therefore run with the owner's rights.
--
-- The aggregator empties usage_pending, usage_pending_recent, usage_delta and usage_appended and vacuums them right afterwards,
-- because readers walk over every page. These tables hold nothing but the queue of the aggregator's own work. Up to PostgreSQL
-- 16, only the owner of a table may vacuum it. There they belong to the aggregator, and the owner of the database is a member of
-- its role.
do $last$
declare
  called record;
  queue text;
begin
  for called in
    select p.oid::regprocedure as signature from pg_proc p
    where p.pronamespace = current_schema::regnamespace and p.prorettype = 'trigger'::regtype
  loop
    execute format('alter function %s security definer set search_path = %I, pg_temp', called.signature, current_schema);
  end loop;
  foreach queue in array array['usage_pending', 'usage_pending_recent', 'usage_delta', 'usage_appended'] loop
    -- Of a newer schema.
    continue when to_regclass(queue) is null;
    if current_setting('server_version_num')::int >= 170000 then
      execute format('grant maintain on %I to meter_usage_aggregator', queue);
    elsif (select c.relowner <> 'meter_usage_aggregator'::regrole from pg_class c where c.oid = queue::regclass) then
      execute format('grant meter_usage_aggregator to %I', current_user);
      execute format('grant create on schema %I to meter_usage_aggregator', current_schema);
      execute format('alter table %I owner to meter_usage_aggregator', queue);
      execute format('revoke create on schema %I from meter_usage_aggregator', current_schema);
    end if;
    if current_setting('server_version_num')::int < 170000 then
      -- A table's owner has all of these; what it does not need is taken from it, and the readers keep theirs.
      execute format('revoke all on %I from meter_usage_aggregator', queue);
      execute format('grant %s on %I to meter_usage_aggregator',
        case queue when 'usage_appended' then 'select' else 'select, insert' end, queue);
      execute format('grant select on %I to meter_metering_api, meter_operator', queue);
      execute format('grant all on %I to %I', queue, current_user);
    end if;
  end loop;
end $last$;
