-- Closed periods keep their bounds. If periods of a license were closed before the license was
-- registered, they followed the calendar month. Its first anchor is therefore the first of the
-- month, and the anchor with which it was registered begins like any change.
create function license_anchor_guard() returns trigger language plpgsql as $$
declare
  license text collate "C" := case when tg_op = 'DELETE' then old.license_id else new.license_id end;
  frozen date := (select frozen_through from license_closing where license_id = license);
begin
  if frozen is not null then
    if tg_op = 'INSERT' and new.effective_from = '-infinity' and not exists (
      select from license_billing_anchor b where b.license_id = license)
    then
      new.anchor_day := 1;
    elsif tg_op <> 'INSERT' and old.effective_from < frozen
      or tg_op <> 'DELETE' and new.effective_from < frozen
    then
      raise exception 'periods of this license are closed through %: their anchor cannot change',
        frozen using errcode = 'MM003';
    end if;
  end if;
  return case when tg_op = 'DELETE' then old else new end;
end $$;
