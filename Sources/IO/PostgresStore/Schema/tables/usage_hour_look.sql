-- When the hours of a day are looked at again for what retention is due to remove. The row of
-- '-infinity' stands for the default partition.
create table usage_hour_look (
  day date primary key,
  next_look timestamptz not null
);
