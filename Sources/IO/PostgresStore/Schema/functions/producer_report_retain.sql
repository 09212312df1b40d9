-- Looks at the next reports behind the producer `after`, and removes those of 400 days ago, with what was counted, of
-- producers that no partition remembers: they are numbers of a ledger that nobody continues. Sequences that are
-- remembered stay for good. Answers the last producer that was looked at; null: there are no more.
create function producer_report_retain(of_group text, of_topic text, after text, most int)
returns text language sql as $$
  with page as (
    select producer, reported_at from producer_report
    where consumer_group = of_group and topic = of_topic and producer > after collate "C"
    order by producer limit most
  ), due as (
    select p.producer from page p
    where p.reported_at < now() - interval '400 days' and not exists (
      select from producer_sequence s
      where s.consumer_group = of_group and s.topic = of_topic and s.producer = p.producer
        and not s.forgotten)
  ), sequences as (
    delete from producer_sequence s using due d
    where s.consumer_group = of_group and s.topic = of_topic and s.producer = d.producer
      and s.forgotten
  ), reports as (
    delete from producer_report r using due d
    where r.consumer_group = of_group and r.topic = of_topic and r.producer = d.producer
      and r.reported_at < now() - interval '400 days'
  )
  select case when count(*) = most then max(producer) end from page
$$;
