-- The anchor date of a month: the anchor day, or the month's last day where it has fewer.
create function anchor_date(month date, anchor_day int) returns date language sql immutable parallel safe as $$
  select least(month + (anchor_day - 1), (month + interval '1 month' - interval '1 day')::date)
$$;
