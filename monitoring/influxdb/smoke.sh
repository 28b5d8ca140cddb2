#!/usr/bin/env bash
# Writes every kind of event into a fresh InfluxDB 2.7 in Docker, by Raven's own way, and reads it back by InfluxQL.
# Our CI cannot run 2.x itself: run this before you rely on it, and after an upgrade of InfluxDB. Needs Docker, and Raven's
# development environment (make). An InfluxDB of your own: python -m tests.store.influx.smoke with INFLUXDB_URL and its kin set.
set -euo pipefail
cd "$(dirname "$0")/../.."

image=${1:-influxdb:2.7}
name=raven-influxdb-smoke-$$
port=${PORT:-18086}

docker run --rm --detach --name "$name" --publish "127.0.0.1:$port:8086" \
  --env DOCKER_INFLUXDB_INIT_MODE=setup --env DOCKER_INFLUXDB_INIT_USERNAME=raven \
  --env DOCKER_INFLUXDB_INIT_PASSWORD=ravens_fly_at_dawn --env DOCKER_INFLUXDB_INIT_ORG=raven \
  --env DOCKER_INFLUXDB_INIT_BUCKET=market_data --env DOCKER_INFLUXDB_INIT_ADMIN_TOKEN=raven-smoke-token "$image" >/dev/null
trap 'docker stop "$name" >/dev/null' EXIT

for _ in $(seq 120); do
  if curl --silent --fail "http://127.0.0.1:$port/health" >/dev/null; then break; fi
  sleep 0.5
done

INFLUXDB_URL=http://127.0.0.1:$port INFLUXDB_TOKEN=raven-smoke-token INFLUXDB_ORG=raven INFLUXDB_BUCKET=market_data \
  .venv/bin/python -m tests.store.influx.smoke
