-- When merges append, and how far usage_combine has walked over what they appended.
create table usage_append_state (
  only_row boolean primary key default true
    constraint usage_append_state_is_one_row check (only_row),
  -- A merge of fewer rows adds them to the hour and day rows itself.
  least_rows int not null default 10000,
  -- When a license, meter and hour has this many rows, they are combined before the hour is over.
  key_rows int not null default 8,
  -- After this many merges that appended, a walk looks for those.
  walk_merges int not null default 16,
  -- The walk has passed the licenses up to this one, in the order of bytes; null if no walk is
  -- under way.
  walked_through text collate "C",
  -- Whether it takes every row, because nothing is being appended.
  is_whole boolean not null default false,
  -- When the last walk began, and usage_append_count then.
  began timestamptz not null default '-infinity',
  merges bigint not null default 0,
  -- The value of usage_append_count that was found last, and since when it has been the same.
  seen bigint not null default 0,
  seen_at timestamptz not null default '-infinity'
);
