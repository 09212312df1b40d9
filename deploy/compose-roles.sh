#!/bin/bash
# Run by compose.yaml in PostgreSQL's image, after migrate: the roles, and a login for each service, whose password is its
# secret. A password that was changed there is changed here.
set -euo pipefail
url=$(</run/secrets/database-url-owner)
psql "$url" --no-psqlrc -q -v ON_ERROR_STOP=1 -1 -f /roles.sql
for file in /run/secrets/password-*; do
  service=${file#/run/secrets/password-}
  # psql quotes what it fills in for :'…' and :"…"; from a file, so that the password is on no command line.
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
