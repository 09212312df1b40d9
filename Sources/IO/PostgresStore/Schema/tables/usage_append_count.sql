-- How many merges have appended to usage_appended. None of them adds more than one row to a key.
create sequence usage_append_count;
