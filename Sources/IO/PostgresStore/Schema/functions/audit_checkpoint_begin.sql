-- Runs at the end of a transaction that gave a partition its first offset in an epoch, or set its
-- offset back, because the producers may be written after the offset. Checkpoints at offsets that
-- will be counted again are no longer valid.
create function audit_checkpoint_begin() returns trigger language plpgsql as $$
begin
  delete from audit_checkpoint c
  where c.consumer_group = new.consumer_group and c.topic = new.topic
    and c.partition = new.partition and c.log_epoch = new.log_epoch
    and c.next_offset > new.next_offset;
  perform audit_checkpoint_write(new.consumer_group, new.topic, new.partition, new.log_epoch,
    new.next_offset,
    tg_op = 'INSERT' or old.log_epoch <> new.log_epoch or old.next_offset < 0);
  return null;
end $$;
