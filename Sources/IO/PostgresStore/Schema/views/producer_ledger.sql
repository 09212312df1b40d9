-- A loss is only reported if all counts are known, which is not so for a producer that was new
-- while others were dropped. Producers choose their numbers, so a difference is numeric, and one that
-- does not fit into a bigint becomes the largest or the smallest one. The smallest is 1 - 2^63, so
-- that it can be negated.
create or replace view producer_ledger as
select consumer_group, topic, producer, accepted, pending, dropped, counted, duplicates, dead_lettered,
  least(
    case when is_judged then 0 else greatest(expected, 0) end
      + case when is_doubtful then greatest(missing, 0) else 0 end,
    9223372036854775807)::bigint as in_flight,
  greatest(
    least(case when is_doubtful then least(missing, 0) else missing end, 9223372036854775807),
    -9223372036854775807)::bigint as missing,
  last_report_at, repeated, final
from (
  select *,
    case when not is_judged then 0 when final then expected else greatest(expected, 0) end as missing
  from (
    select coalesce(s.consumer_group, r.consumer_group) as consumer_group,
      coalesce(s.topic, r.topic) as topic,
      coalesce(s.producer, r.producer) as producer,
      r.accepted, r.pending, r.dropped,
      coalesce(s.counted, 0)::bigint as counted,
      coalesce(s.duplicates, 0)::bigint as duplicates,
      coalesce(s.dead_lettered, 0)::bigint as dead_lettered,
      -- Null without a report.
      r.accepted::numeric - r.dropped - r.pending - coalesce(s.accounted, 0) as expected,
      r.judged_at is not null as is_judged,
      r.reported_at as last_report_at,
      coalesce(s.repeated, 0)::bigint as repeated,
      r.final,
      exists (
        select from producer_forgotten f
        where f.consumer_group = r.consumer_group and f.topic = r.topic
          and f.first_at <= r.first_reported_at
          and f.last_at >= r.first_reported_at - interval '1 hour') as is_doubtful
    from (
      select consumer_group, topic, producer, sum(counted) as counted, sum(duplicates) as duplicates,
        sum(repeated) as repeated, sum(dead_lettered) as dead_lettered,
        sum(counted + repeated + dead_lettered) as accounted
      from producer_sequence group by 1, 2, 3
    ) s full join producer_report r using (consumer_group, topic, producer)
  ) u
) l;
