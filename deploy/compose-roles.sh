#!/bin/bash
# compose.yaml runs this in PostgreSQL's image after migrate. It creates the roles, and a login for each service with its secret as
# the password. If a secret was changed, the password is changed too.
set -euo pipefail
url=$(</run/secrets/database-url-owner)
psql "$url" --no-psqlrc -q -v ON_ERROR_STOP=1 -1 -f /roles.sql
for file in /run/secrets/password-*; do
  service=${file#/run/secrets/password-}
  # psql quotes what it inserts for :'…' and :"…". It reads a file, so that the password is on no command line.
  {
    printf "\\\\set password '%s'\n" "$(<"$file")"
    printf "\\\\set login '%s'\n\\\\set role 'meter_%s'\n" "$service" "$service"
    cat <<'SQL'
select format('create role %I login', :'login') where not exists (select from pg_roles where rolname = :'login') \gexec
alter role :"login" login password :'password';
grant :"role" to :"login";
SQL
  } | psql "$url" --no-psqlrc -q -v ON_ERROR_STOP=1 -1
done
