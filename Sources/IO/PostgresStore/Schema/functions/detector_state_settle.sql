-- Removes the states that older checkpoints left for these partitions.
create function detector_state_settle(
  settled_group text, settled_topic text, partitions int[], epochs int[], offsets bigint[]
) returns void language sql as $$
  delete from detector_state s
  using unnest(partitions, epochs, offsets) as n(partition, log_epoch, next_offset)
  where s.consumer_group = settled_group and s.topic = settled_topic and s.partition = n.partition
    and (s.log_epoch, s.next_offset) is distinct from (n.log_epoch, n.next_offset)
$$;
