create table consumer_offset (
  consumer_group text not null,
  topic text not null,
  partition int not null,
  next_offset bigint not null,
  log_epoch int not null default 1,
  last_record_offset bigint,
  last_record_hash bigint,
  updated_at timestamptz not null default now(),
  -- The process that owns the partition. A flush of any other process is refused, even if the
  -- offset still fits.
  claimed_by text,
  primary key (consumer_group, topic, partition)
) with (fillfactor = 50);

create constraint trigger audit_checkpoint_of_first_offset
  after insert on consumer_offset deferrable initially deferred for each row
  when (new.next_offset >= 0) execute function audit_checkpoint_begin();

create constraint trigger audit_checkpoint_of_offset_set
  after update on consumer_offset deferrable initially deferred for each row
  when (new.next_offset >= 0 and (new.log_epoch <> old.log_epoch or old.next_offset < 0
    or new.next_offset < old.next_offset))
  execute function audit_checkpoint_begin();

create trigger usage_merged_of_first_offset
  after insert on consumer_offset for each row
  when (new.consumer_group = 'usage-aggregator' and new.topic = 'license.usage.v1')
  execute function usage_merged_reset();

create trigger usage_merged_of_offset_set_back
  after update on consumer_offset for each row
  when (new.consumer_group = 'usage-aggregator' and new.topic = 'license.usage.v1'
    and (new.log_epoch, new.next_offset) < (old.log_epoch, old.next_offset))
  execute function usage_merged_reset();

create trigger log_lost_of_offset_set_back
  after update on consumer_offset for each row
  when (old.next_offset >= 0 and (new.log_epoch <> old.log_epoch
    or new.next_offset < old.next_offset))
  execute function log_lost();
