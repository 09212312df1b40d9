-- Closes the periods that end up to a day, for the next licenses in the order of bytes. Returns the
-- last of these licenses (null after the last one) and how many periods were closed. Each call is a
-- transaction, so that merges run between two calls. A call that is cut off closes nothing for its
-- licenses.
create function usage_close_next(
  of_close bigint, after_license text, through date, of_customer text, most int
) returns table (last_license text, closed bigint)
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
declare
  today date := (now() at time zone 'UTC')::date;
begin
  perform usage_close_lock();
  with known as materialized (
    (select l.license_id from license l where l.license_id > after_license
      and (of_customer is null or l.customer_id = of_customer) order by 1 limit most)
    union
    (select distinct t.license_id from usage_license_period t
      where t.license_id > after_license and of_customer is null order by 1 limit most)
    order by 1 limit most
  ), waiting as (
    -- If the list of known licenses is full, no license after it is among the next ones. Many rows
    -- of such licenses may wait, and they need not be sorted.
    select w.license_id from (
      select license_id from usage_delta union all select license_id from usage_unmerged) w
    where w.license_id > after_license and of_customer is null
      and ((select count(*) from known) < most
        or w.license_id < (select max(license_id) from known))
  ), candidate as materialized (
    select u.license_id from (
      select license_id from known
      union
      select license_id from waiting
      union
      -- This is needed until the totals of older days are made.
      (select distinct t.license_id from usage_appended t
        where t.license_id > after_license and of_customer is null
          and not (select is_complete from usage_total_state) order by 1 limit most)
      union
      (select distinct t.license_id from usage_day t
        where t.license_id > after_license and of_customer is null
          and not (select is_complete from usage_total_state) order by 1 limit most)
    ) u order by 1 limit most
  ), chosen as (
    insert into closing (license_id, customer_id, closed_from, boundary)
    select x.license_id, l.customer_id, coalesce(c.closed_through, '-infinity'), p.first_day
    from candidate x
    -- Both tables are looked up by their keys, whatever the planner guesses.
    left join lateral (
      select i.customer_id from license i where i.license_id = x.license_id offset 0) l on true
    left join lateral (
      select k.closed_through from license_closing k where k.license_id = x.license_id offset 0
    ) c on true,
      period_of(x.license_id, least(through, today)) p
    where p.first_day > coalesce(c.closed_through, '-infinity')
  )
  select max(license_id) into last_license from candidate;
  closed := case when exists (select from closing) then usage_close_chosen(of_close) else 0 end;
  return next;
end $$;
