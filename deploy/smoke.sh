#!/usr/bin/env bash
# Brings Etude up by docker-compose.yml in a project of its own, does with it what people and programs
# do, breaks parts of it, and takes all of it down again. It needs an engine with Compose v2, curl and
# python3, about 12 GB of disk, and half an hour on two cores. docs/deploy.md says where it was run.
#
#   deploy/smoke.sh            everything
#   KEEP=1 deploy/smoke.sh     leaves it running at the end; KEEP=failed only where it failed
#
# SMOKE_OVERRIDE names another compose file, e.g. for images of your own in the place of public ones;
# SMOKE_BESIDE says which of caddy, prometheus and grafana are tried.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
project=etude-smoke
port=${SMOKE_PORT:-18473}
# How long the long job trains: enough that it still does when all parts were killed.
long_seconds=${SMOKE_SECONDS:-900}
# How much longer than usual everything may take.
patience=${SMOKE_PATIENCE:-1}
beside=" ${SMOKE_BESIDE-caddy prometheus grafana} "
address=http://127.0.0.1:$port
name=etude.smoke.test
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
export COMPOSE_PROFILES=cpu ETUDE_PUBLISH=127.0.0.1:$port
export ETUDE_BACKUPS=$work/backups ETUDE_MODELS=$work/models ETUDE_SECRETS=$work/secrets
export ETUDE_SERVER_NAME=$name ETUDE_CERTIFICATES=$work/certificates
export ETUDE_TLS="/certificates/etude.pem /certificates/etude.key"
export ETUDE_HTTPS_PORT=127.0.0.1:$((port + 2)) ETUDE_HTTP_PORT=127.0.0.1:$((port + 3))
export ETUDE_MONITORING_PUBLISH=127.0.0.1:$((port + 4))
export ETUDE_PROXY_NETWORK=10.213.78.0/28 ETUDE_PROXY_ADDRESS=10.213.78.10
export ETUDE_VERSION=smoke
began=$SECONDS
mkdir -p "$ETUDE_BACKUPS" "$ETUDE_MODELS" "$ETUDE_SECRETS" "$ETUDE_CERTIFICATES"
# The settings of the test, and one that is no setting.
cat >"$work/env" <<END
ETUDE_TIME_ZONE=Europe/Berlin
ETUDE_PUBLIC_URL=$address
ETUDE_SERVER_NAME=$name
ETUDE_EVALUATE_AFTER_TRAINING=false
ETUDE_TIMEZONE=Europe/Berlin
END

compose() {
  docker compose --progress quiet --project-name "${in:-$project}" --env-file "$work/env" --file docker-compose.yml \
    --file "$work/override.yml" ${SMOKE_OVERRIDE:+--file "$SMOKE_OVERRIDE"} "$@"
}
# The settings reach containers from the test's own file and not from a .env that lies here.
python3 - >"$work/override.yml" <<END
print("services:")
for name in "migrate web gpu-worker cpu-trainer cpu-worker gpu-answer cpu-answer backup".split():
    print(f"  {name}:\n    env_file: !override [{{ path: $work/env, required: true }}]")
END

# Also from within what is asked in silence.
exec 3>&1
say() { printf '%4d s  %s\n' $((SECONDS - began)) "$*" >&3; }
fail() { say "FAILED: $*"; exit 1; }
until_true() { # SECONDS WHAT COMMAND…
  local deadline=$((SECONDS + $1 * patience)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || fail "$what"
    sleep 1
  done
}
end() {
  local code=$?
  if [ $code -ne 0 ]; then compose ps --all || true; compose logs --tail 40 >"$work/logs" 2>&1 || true; fi
  if [ -z "${KEEP:-}" ] || { [ "$KEEP" = failed ] && [ $code -eq 0 ]; }; then
    for in in "$project" "$project-restored"; do compose down --volumes --timeout 10 >/dev/null 2>&1 || true; done
    [ $code -ne 0 ] || rm -rf "$work"
  fi
  [ $code -eq 0 ] || say "logs: $work/logs"
}
trap end EXIT
# Ended from outside is not ended well.
trap 'exit 130' INT TERM

etude() { compose exec -T web etude "$@"; }
api() { # METHOD PATH [curl options]
  local method=$1 path=$2
  shift 2
  curl --silent --show-error --fail-with-body --max-time $((120 * patience)) --request "$method" \
    --header @"$work/token" "$@" "$address/v1$path"
}
field() { python3 -c 'import functools, json, sys; print(functools.reduce(lambda v, k: v[int(k) if k.isdigit() else k], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }
ready() { curl --silent --fail --max-time 5 "$address/readyz"; }
job() { # STEPS NAME; each step is small, so that a busy machine takes some, too
  api POST /fine_tuning/jobs --json "{\"model\": \"HuggingFaceTB/SmolLM2-135M-Instruct\",
    \"training_file\": \"$file\", \"x_etude\": {\"preset\": \"quick\", \"name\": \"$2\",
      \"num_steps\": $1, \"batch_size\": 1, \"num_evaluations\": 1},
    \"x_privacy\": {\"decision\": \"keep\", \"reason\": \"An invented sample.\"}}" | field id
}
state() { api GET "/fine_tuning/jobs/$1" | field "${2:-status}"; }
trains() { [ "$(state "$1")" = running ] && [ "$(state "$1" x_step)" -ge "${2:-1}" ]; }
succeeded() {
  case $(state "$1") in
    succeeded) ;;
    failed | cancelled) fail "job $1: $(api GET "/fine_tuning/jobs/$1")" ;;
    *) return 1 ;;
  esac
}
# On a quick machine the long job may be over before its next part comes: then another one trains.
still_trains() {
  [ "$(state "$long")" = succeeded ] || return 0
  long=$(job "$steps" long)
  until_true 600 "another long job trains" trains "$long" 3
}
doctor() { etude doctor >"$work/doctor" 2>&1 || { cat "$work/doctor"; return 1; }; }

say "Taking down works before anything was ever set"
compose down --volumes >/dev/null 2>&1 || fail "down without anything"

say "Building; two images, each once"
compose build --quiet >"$work/build" 2>&1 || { tail -30 "$work/build"; fail "the build"; }
of_image() { docker image inspect "$1" --format "$2"; }
base_bytes=$(of_image "$(sed -n 's/^FROM \(.*\) AS base$/\1/p' Dockerfile)" '{{.Size}}')
for image in web worker; do
  label=$(of_image "etude-$image:smoke" '{{index .Config.Labels "org.opencontainers.image.version"}}')
  [ "$label" = "$version" ] || fail "etude-$image says that it is version $label"
  megabytes=$((($(of_image "etude-$image:smoke" '{{.Size}}') - base_bytes) / 1000000))
  say "etude-$image $label: $megabytes MB beyond its base image"
  [ $image != web ] || [ $megabytes -le 400 ] || fail "the web's image has outgrown its 400 MB"
done
has='for each in gcc cc ld as; do command -v $each && exit; done; python -c "import torch" 2>/dev/null'
if docker run --rm --network none --entrypoint sh etude-web:smoke -c "$has"; then
  fail "the web's image has a compiler or torch"
fi

say "Bringing it up"
compose up --detach --wait --wait-timeout $((300 * patience))
until_true 120 "never ready" ready
say "Ready: $(ready)"

say "It answers to the machine's own name and to the one that was set, and to no other"
named() { curl --silent --output /dev/null --write-out '%{http_code}' --header "Host: $1" "$address/healthz"; }
for each in "$(hostname):$port" "$name:$port"; do
  [ "$(named "$each")" = 200 ] || fail "it does not answer to $each: $(named "$each")"
done
[ "$(named evil.example)" = 421 ] || fail "it answers to any name"

say "No container of web and workers knows the owner's password"
for service in web cpu-worker cpu-trainer cpu-answer; do
  if compose exec -T "$service" sh -c 'env | grep -qi owner || test -e /run/etude/owner'; then
    fail "$service knows it"
  fi
done
compose exec -T web sh -c 'test "$ETUDE_TIME_ZONE" = Europe/Berlin' || fail "a setting did not reach the web"

say "Doctor"
until_true 120 "doctor is not content" doctor
cat "$work/doctor"
grep -q "ETUDE_TIMEZONE is no setting of Etude" "$work/doctor" || fail "doctor did not tell of the unknown setting"
compose logs web >"$work/web.log"
grep -q ETUDE_TIMEZONE "$work/web.log" || fail "the log did not tell of the unknown setting"

say "Trainers reach nothing; the worker that mails reaches the outside"
compose exec -T cpu-trainer python -S -c '
import socket, sys
try:
    socket.create_connection(("1.1.1.1", 53), 3)
except OSError as error:
    sys.exit(0 if "unreachable" in str(error) or "timed out" in str(error) else str(error))
sys.exit("it reached the outside")'

say "The first administrator signs in"
link=$(etude user add boss@example.org --role admin)
link=$(grep -o 'http[^ ]*/setup/[^ ]*' <<<"$link")
case $link in "$address"/setup/*) ;; *) fail "the link is $link" ;; esac
echo 'a long and quiet password' | etude user add chief@example.org --role admin --password-stdin
curl --silent --show-error --fail --cookie-jar "$work/cookies" --header "Origin: $address" \
  --data-urlencode email=chief@example.org --data-urlencode 'password=a long and quiet password' \
  --data-urlencode next=/ "$address/sign-in" >/dev/null
queue_page() { curl --silent --fail --max-time 10 --cookie "$work/cookies" "$address/queue" --output "$work/queue"; }
queue_page || fail "no page of the queue"
grep -q "<h1>Queue" "$work/queue" || fail "not signed in"

if [[ $beside = *" caddy "* ]]; then
  say "TLS with the house's certificate"
  # Only root reads the key, as a house keeps it.
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$name" -addext "subjectAltName=DNS:$name" \
    -keyout "$work/certificates/etude.key" -out "$work/certificates/etude.pem" 2>/dev/null
  compose up --detach --wait --wait-timeout $((120 * patience)) caddy
  outside() {
    curl --silent --show-error --cacert "$work/certificates/etude.pem" --max-time 10 \
      --resolve "$name:$((port + 2)):127.0.0.1" --output /dev/null --write-out '%{http_code}' "$@"
  }
  [ "$(outside "https://$name:$((port + 2))/sign-in")" = 200 ] || fail "no page through Caddy"
  # A form's origin is the page's own only where the web believes what Caddy says of the scheme.
  posted=$(outside --header "Origin: https://$name:$((port + 2))" --data-urlencode email=chief@example.org \
    --data-urlencode 'password=a long and quiet password' "https://$name:$((port + 2))/sign-in")
  [ "$posted" = 303 ] || fail "signing in through Caddy says $posted"
  moved=$(curl --silent --output /dev/null --write-out '%{http_code} %{redirect_url}' \
    --header "Host: $name" "http://127.0.0.1:$((port + 3))/queue")
  [ "$moved" = "308 https://$name/queue" ] || fail "plain http says $moved"
  compose rm --stop --force caddy >/dev/null
fi

if [[ $beside = *" prometheus "* ]]; then
  say "Prometheus reads the measurements"
  compose up --detach --wait --wait-timeout $((120 * patience)) prometheus
  measured() {
    compose exec -T prometheus wget -q -O - 'http://127.0.0.1:9090/api/v1/query?query=etude_database_up' |
      grep -q '"value":\[[0-9.]*,"1"\]'
  }
  until_true 60 "Prometheus has no measurement" measured
  if [[ $beside = *" grafana "* ]]; then
    compose up --detach --wait --wait-timeout $((120 * patience)) grafana
    board() {
      curl --silent --fail --user "admin:$(compose exec -T grafana cat /run/etude/grafana/password)" \
        "http://$ETUDE_MONITORING_PUBLISH/api/dashboards/uid/etude"
    }
    until_true 60 "Grafana has no dashboard" board
    compose rm --stop --force grafana >/dev/null
  fi
  compose rm --stop --force prometheus >/dev/null
fi

say "A program trains through /v1"
etude user add program@example.org --service >/dev/null
printf 'Authorization: Bearer %s' "$(etude token create program@example.org --name smoke)" >"$work/token"
until_true 600 "the starter model was not imported" \
  sh -c "curl -sf -H @$work/token $address/v1/models/HuggingFaceTB/SmolLM2-135M-Instruct | grep '\"x_status\": *\"ready\"'"
file=$(api POST /files --form purpose=fine-tune --form file=@examples/clinic-faq.csv | field id)
first=$(job 10 first)
until_true 900 "the first job" succeeded "$first"
model=$(state "$first" fine_tuned_model)

say "It is asked, and taken home"
api POST /chat/completions --json "{\"model\": \"$model\", \"max_tokens\": 20, \"messages\": [{\"role\": \"user\", \"content\": \"Where is blood taken?\"}]}" | field choices.0.message.content
api GET "/files/$(state "$first" result_files.1)/content" --output "$work/adapter.zip"
python3 -m zipfile --test "$work/adapter.zip" >/dev/null || fail "the adapter's zip"

say "Up to two trainers and down to one"
compose up --detach --no-recreate --scale cpu-trainer=2
until_true 90 "the second worker" sh -c "curl -sf -b $work/cookies $address/queue | grep gpu-1@compose"
compose up --detach --no-recreate --scale cpu-trainer=1
second=$(job 10 second)
until_true 900 "the job after scaling" succeeded "$second"
doctor || fail "doctor after scaling"
# From the time that its ten steps took.
steps=$(api GET "/fine_tuning/jobs/$second/events?limit=100" | python3 -c '
import json, sys
ends = [one["created_at"] for one in json.load(sys.stdin)["data"] if one["type"] == "metrics"]
print(max(60, int(float(sys.argv[1]) * 9 / max(max(ends) - min(ends), 0.2))))' "$long_seconds")

say "Killing parts while a job of $steps steps trains"
long=$(job "$steps" long)
until_true 600 "the long job trains" trains "$long" 3
trainer=$(compose ps --quiet cpu-trainer)
docker rm --force "$trainer" >/dev/null
killed=$SECONDS
compose up --detach --no-recreate
until_true 180 "the job of a removed container" trains "$long"
say "A removed container's job trained again after $((SECONDS - killed)) s"
compose kill web && compose up --detach --no-recreate web
compose restart --timeout 5 valkey
until_true 120 "ready after web and Valkey" ready

say "PostgreSQL away for two minutes"
step=$(state "$long" x_step)
compose stop postgres
compose ps web
sleep 120
lines=$(compose logs --since 110s web cpu-worker cpu-trainer cpu-answer backup | wc -l)
say "$lines lines of log in that time"
compose start postgres
until_true 180 "ready after PostgreSQL" ready
[ "$(state "$long" x_step)" -ge "$step" ] || fail "the job went back from step $step"
[ "$lines" -lt 300 ] || fail "too much was logged"

say "A backup while it trains"
still_trains
compose exec -T backup etude backup /backups
[ -z "$(find "$ETUDE_BACKUPS" -name '*.tar' -perm /077)" ] || fail "the backup is open to others"

say "An update while it trains: new images, a look ahead, one command"
export ETUDE_VERSION=smoke2
compose build --quiet >"$work/build" 2>&1 || { tail -30 "$work/build"; fail "the build of the update"; }
still_trains
compose run --rm --no-deps --no-TTY backup upgrade-check || fail "something stands in the way of the update"
compose up --detach --wait --wait-timeout $((300 * patience))
until_true 180 "ready after the update" ready
until_true 300 "the job goes on after the update" trains "$long"

say "A restore beside it"
(
  export in=$project-restored ETUDE_PUBLISH=127.0.0.1:$((port + 1))
  export ETUDE_PROXY_NETWORK=10.213.79.0/28 ETUDE_PROXY_ADDRESS=10.213.79.10
  compose up --detach --wait postgres valkey
  compose run --rm --no-deps --no-TTY backup restore /backups
  compose up --detach --wait --wait-timeout $((300 * patience)) web
  compose exec -T web etude user list >"$work/people"
  grep -q chief@example.org "$work/people" || fail "nobody came back"
  compose down --volumes --timeout 10
)

say "The long job ends"
until_true 2400 "the long job" succeeded "$long"
doctor || fail "doctor at the end"

say "Down and up again"
compose down --timeout 60
compose up --detach --wait --wait-timeout $((300 * patience))
until_true 120 "ready again" ready
[ "$(state "$long")" = succeeded ] || fail "the job is gone"
say "All of it works"
