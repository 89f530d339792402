#!/bin/sh
# What docker-compose.yml runs before anything else, as root and without a network: it makes the
# passwords that are not there yet, a file each for those who need it, and gives folders to the users
# of the containers that use them. Running it again changes nothing that is right.
set -eu
umask 022
etude=10001 valkey=999

say() { echo "etude: $*" >&2; }

# put FILE VALUE: VALUE, or something random where it is empty, into a file that is not there yet.
put() {
  value=$2
  [ -n "$value" ] || value=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
  printf '%s' "$value" >"$1.new"
  # Whoever has the volume may read it; nobody else sees the volume.
  chmod 444 "$1.new"
  mv "$1.new" "$1"
}

# renew FILE VALUE: the same, and VALUE also replaces what is there.
renew() {
  if [ ! -s "$1" ] || { [ -n "$2" ] && [ "$(cat "$1")" != "$2" ]; }; then put "$1" "$2"; fi
}

owner=/run/etude/owner/database_owner_password
if [ ! -s "$owner" ]; then
  if [ -e /servers/postgres/PG_VERSION ] && [ -z "$ETUDE_POSTGRES_PASSWORD" ]; then
    say "The volume “postgres” holds a database that was made with a password which is not here."
    say "Write it into .env as ETUDE_POSTGRES_PASSWORD, or see “Passwords” in docs/deploy.md."
    exit 1
  fi
  put "$owner" "$ETUDE_POSTGRES_PASSWORD"
elif [ -n "$ETUDE_POSTGRES_PASSWORD" ] && [ "$(cat "$owner")" != "$ETUDE_POSTGRES_PASSWORD" ]; then
  say "ETUDE_POSTGRES_PASSWORD in .env is not the password that the database was made with."
  say "The old one stays in use: remove the line, or see “Passwords” in docs/deploy.md."
fi
renew /run/etude/database/database_password "$ETUDE_POSTGRES_APP_PASSWORD"
renew /run/etude/broker/redis_password "$ETUDE_VALKEY_PASSWORD"
renew /run/etude/metrics/etude_metrics_token "$ETUDE_METRICS_TOKEN"
renew /run/etude/grafana/password ""

# With deploy/compose.join.yml, other machines reach the servers: by TLS alone, and share a folder.
if [ -d /run/etude/tls ]; then
  certificate=${ETUDE_TLS%% *} key=${ETUDE_TLS##* }
  if [ ! -s "$certificate" ] || [ ! -s "$key" ]; then
    say "Machines join over TLS: set ETUDE_TLS in .env to a certificate and its key in the folder of"
    say "ETUDE_CERTIFICATES, e.g. ETUDE_TLS=/certificates/etude.pem /certificates/etude.key."
    exit 1
  fi
  # Whoever has the volume may read it: the two servers.
  install -m 0444 "$certificate" /run/etude/tls/certificate.pem
  install -o "$valkey" -m 0400 "$key" /run/etude/tls/key.pem
  chown "$etude:$etude" /shared || say "The folder of ETUDE_SHARED has to belong to user $etude."
fi

# What somebody copied there as root could be neither used nor removed.
find /data ! -user "$etude" -exec chown -h "$etude:$etude" {} +
find /servers/valkey ! -user "$valkey" -exec chown -h "$valkey:$valkey" {} +
chown "$etude:$etude" /backups
chmod 700 /data /backups
