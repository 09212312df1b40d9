-- The timestamp is truncated and not the date, because that keeps the three functions immutable,
-- and the planner inlines them.
create or replace function next_anchor(day date, anchor_day int) returns date
language sql immutable parallel safe as $$
  select case when anchor_date(date_trunc('month', day::timestamp)::date, anchor_day) > day
    then anchor_date(date_trunc('month', day::timestamp)::date, anchor_day)
    else anchor_date((date_trunc('month', day::timestamp) + interval '1 month')::date, anchor_day) end
$$;
