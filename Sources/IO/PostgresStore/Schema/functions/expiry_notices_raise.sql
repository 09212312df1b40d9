-- Raises at most `most` due notices and returns how many. A license gets only the notice of its
-- current stage: after an outage of days, nobody is told about stages that are over. There is no
-- notice for a stage that had begun when the license was registered (an import of licenses that
-- expired long ago, a trial of a week), or that began more than 30 days ago. A renewed license has
-- another `expires_at` and gets new notices.
create function expiry_notices_raise(most int, at timestamptz default now()) returns int language plpgsql as $$
declare
  notice record;
  raised int := 0;
begin
  -- Only one sweep runs at a time, in whichever process. The others have nothing to do.
  if not pg_try_advisory_xact_lock(hashtextextended('expiry notices', 0)) then return 0; end if;
  for notice in
    with stage as (
      select l.license_id, l.expires_at, l.trial, s.type, s.days, s.begins
      from license l, lateral (values
        ('license.expiring', 14, l.expires_at - interval '14 days', l.expires_at - interval '3 days'),
        ('license.expiring', 3, l.expires_at - interval '3 days', l.expires_at - interval '1 day'),
        ('license.expiring', 1, l.expires_at - interval '1 day', l.expires_at),
        ('license.grace_started', null, l.expires_at,
          case when l.trial then l.expires_at else l.expires_at + interval '7 days' end),
        ('license.expired', null, case when l.trial then l.expires_at else l.expires_at + interval '7 days' end,
          l.expires_at + interval '37 days')
      ) s(type, days, begins, ends)
      where l.status = 'active' and l.expires_at > at - interval '37 days'
        and l.expires_at <= at + interval '14 days' and s.begins <= at and at < s.ends
        and l.created_at < s.begins
    ), keyed as (
      select *, concat_ws('/', type, license_id, extract(epoch from expires_at)::bigint, days) as dedupe_key from stage
    )
    select * from keyed k where not exists (select from alert a where a.dedupe_key = k.dedupe_key)
    order by k.begins limit most
  loop
    if alert_raise(notice.type, notice.license_id, notice.begins,
      jsonb_strip_nulls(jsonb_build_object(
        'expires_at', to_char(notice.expires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
        'days_before', notice.days, 'trial', notice.trial,
        'grace_ends_at', case when not notice.trial then
          to_char((notice.expires_at + interval '7 days') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') end)),
      notice.dedupe_key) is not null
    then raised := raised + 1; end if;
  end loop;
  return raised;
end $$;
