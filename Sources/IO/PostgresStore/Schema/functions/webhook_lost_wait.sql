-- How long a delivery waits whose lease ended without a report, `step` failed attempts after it was
-- created; null if this was the last attempt. The first time it does not wait, because its lease
-- was long enough. From then on it follows the retry schedule of RetrySchedule.swift, so that a
-- delivery that ends its dispatcher does not meet the same neighbors each time.
create function webhook_lost_wait(step int) returns interval language sql volatile as $$
  select case when step <= 0 then interval '0'
    else make_interval(secs => (array[5, 300, 1800, 7200, 18000, 36000, 36000, 86400])[step] * (0.8 + 0.4 * random())) end
$$;
