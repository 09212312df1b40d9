-- The anchor date in a month: the anchor day, or the last day of a month that is too short.
create function anchor_date(month date, anchor_day int) returns date language sql immutable parallel safe as $$
  select least(month + (anchor_day - 1), (month + interval '1 month' - interval '1 day')::date)
$$;
