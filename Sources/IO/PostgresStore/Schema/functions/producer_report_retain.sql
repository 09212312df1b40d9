-- Checks the next reports after the producer `after`. It removes those that are older than 400
-- days, with their counts, if no partition remembers the producer, because nobody continues such a
-- ledger. Remembered sequences stay for ever. Returns the last producer that was checked, or null
-- if there are no more.
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
