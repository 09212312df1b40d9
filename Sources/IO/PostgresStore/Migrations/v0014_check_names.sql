-- CHECKs over several columns get names that say what must hold. An error names the constraint, and
-- webhook_delivery_check1 says nothing.
update schema_version set version = 14;

alter table webhook_endpoint
  rename constraint webhook_endpoint_check to webhook_endpoint_disabled_has_time;
alter table webhook_endpoint
  rename constraint webhook_endpoint_check1 to webhook_endpoint_disabled_has_reason;
alter table webhook_endpoint
  rename constraint webhook_endpoint_check2 to webhook_endpoint_failures_have_a_start;
alter table webhook_endpoint
  rename constraint webhook_endpoint_check3 to webhook_endpoint_open_after_failures;
alter table webhook_delivery
  rename constraint webhook_delivery_check to webhook_delivery_pending_has_next_attempt;
alter table webhook_delivery
  rename constraint webhook_delivery_check1 to webhook_delivery_ended_has_time;
alter table webhook_delivery
  rename constraint webhook_delivery_check2 to webhook_delivery_leased_is_pending;
alter table webhook_attempt
  rename constraint webhook_attempt_check to webhook_attempt_has_status_or_error;
