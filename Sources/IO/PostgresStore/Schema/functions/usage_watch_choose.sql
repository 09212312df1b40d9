-- Chooses what is watched from now on: the meters (at most 100) and the customers with the most
-- events in the last two weeks, with each of their meters separately. A series with an anomaly in
-- progress stays until it has ended.
create function usage_watch_choose(most int) returns void language sql as $$
  with busy as (
    select customer_id collate "C" as customer_id, meter, sum(event_count) as events
    from usage_customer_day where day > (now() at time zone 'UTC')::date - 14 group by 1, 2
  ), largest as (
    select customer_id from busy where customer_id <> '' group by 1
    order by sum(events) desc, customer_id limit most
  ), chosen as (
    (select b.customer_id, b.meter from busy b join largest using (customer_id)
      order by b.events desc, 1, 2 limit 3 * most)
    union all
    (select '', meter from busy group by meter order by sum(events) desc, meter limit 100)
  ), gone as (
    delete from usage_watch_series s where not s.is_open and not exists (
      select from chosen c where c.customer_id = s.customer_id and c.meter = s.meter)
  )
  insert into usage_watch_series (customer_id, meter)
  select customer_id, meter from chosen on conflict do nothing
$$;
