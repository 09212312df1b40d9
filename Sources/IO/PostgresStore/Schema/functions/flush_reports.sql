-- Stores what producers say about themselves, after the compare-and-set of the same flush. If a
-- producer has several reports, the one with the most accepted events is kept.
create function flush_reports(
  flush_group text, flush_topic text, epoch int, producers text[], accepted bigint[],
  pending bigint[], dropped bigint[], finals boolean[], reported_ats timestamptz[]
) returns void language sql as $$
  insert into producer_report as r (
    consumer_group, topic, producer, accepted, pending, dropped, final, reported_at, log_epoch)
  select distinct on (u.producer) flush_group, flush_topic, u.producer, u.accepted, u.pending,
    u.dropped, u.final, u.reported_at, epoch
  from unnest(producers, accepted, pending, dropped, finals, reported_ats) with ordinality
    as u(producer, accepted, pending, dropped, final, reported_at, place)
  order by u.producer, u.accepted desc, u.place desc
  on conflict (consumer_group, topic, producer) do update set
    accepted = excluded.accepted, pending = excluded.pending, dropped = excluded.dropped,
    final = excluded.final, reported_at = excluded.reported_at, log_epoch = excluded.log_epoch,
    log_ends = null, judged_at = null
  -- A report that was sent again is older than the stored one.
  where excluded.accepted >= r.accepted and excluded.reported_at >= r.reported_at
$$;
