-- What each partition knows about its producers now, in the form of a checkpoint.
create view audit_producers as
select consumer_group, topic, partition,
  array_agg(producer order by forgotten desc, last_offset, producer) as producers,
  array_agg(sequence order by forgotten desc, last_offset, producer) as sequences,
  array_agg(dead_sequence order by forgotten desc, last_offset, producer) as dead_sequences,
  array_agg(counted order by forgotten desc, last_offset, producer) as counted,
  array_agg(duplicates order by forgotten desc, last_offset, producer) as duplicates,
  array_agg(repeated order by forgotten desc, last_offset, producer) as repeated,
  array_agg(dead_lettered order by forgotten desc, last_offset, producer) as dead_lettered,
  array_agg(forgotten order by forgotten desc, last_offset, producer) as forgotten
from producer_sequence group by 1, 2, 3;
