#!/bin/sh
# Run the bootstrap function, and fail if it fails. Used by Terraform and by .ci/deploy. Needs gcloud and curl.
#
# PROJECT, REGION, FUNCTION: the function. ACCOUNT: service account that may call it. JOB: Cloud Scheduler job that calls it.
#
# A function with the ingress setting `all` is called from this machine, as ACCOUNT. Otherwise Cloud Scheduler calls it, and
# the request log of Cloud Run has the status.
# New permissions take minutes to take effect, so a missing permission is retried.
set -eu

for tool in gcloud curl; do
  command -v "$tool" >/dev/null || { echo "the bootstrap was not run: there is no $tool on this machine" >&2; exit 1; }
done

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

# Sets status, and writes what the function answered into the file.
attempt() {
  status=000
  described=$(gcloud functions describe "$FUNCTION" --project="$PROJECT" --region="$REGION" \
    --format='value(serviceConfig.uri,serviceConfig.ingressSettings,serviceConfig.revision)') || return 0
  # shellcheck disable=SC2086 # three words
  set -- $described
  case $2 in
    ALLOW_ALL) call "$1" ;;
    *) schedule "resource.type=\"cloud_run_revision\" AND resource.labels.revision_name=\"${3##*/}\"" ;;
  esac
}

call() {
  token=$(gcloud auth print-identity-token --quiet --impersonate-service-account="$ACCOUNT" --audiences="$1" --include-email) || return 0
  status=$(printf 'header = "Authorization: Bearer %s"\n' "$token" |
    curl --silent --show-error --max-time 620 --config - --request POST --data '' --output "$answer" --write-out '%{http_code}' "$1") || true
}

# Waits for a request that is not the one which was the last before.
schedule() {
  before=$(last_request "$1") && gcloud scheduler jobs run "$JOB" --project="$PROJECT" --location="$REGION" || return 0
  waits=${WAITS:-44}
  while [ "$waits" -gt 0 ]; do
    waits=$((waits - 1))
    sleep "${PAUSE:-15}"
    request=$(last_request "$1") || continue
    [ "$request" != "$before" ] || continue
    status=${request##*[!0-9]}
    gcloud logging read --project="$PROJECT" --limit=100 --freshness=15m --order=asc \
      --format='value(jsonPayload.change,jsonPayload.name,jsonPayload.error)' \
      "$1 AND jsonPayload.message=\"bootstrap\" AND jsonPayload.change!=\"unchanged\"" > "$answer" || true
    return 0
  done
}

# Prints the id and the status of the last request to a revision.
last_request() {
  gcloud logging read --project="$PROJECT" --limit=1 --format='value(insertId,httpRequest.status)' \
    "$1 AND log_id(\"run.googleapis.com/requests\") AND httpRequest.requestMethod=\"POST\""
}

tries=${TRIES:-20}
try=1
while :; do
  attempt
  case $status in
    200) cat "$answer"; echo; exit 0 ;;
    409) echo "the bootstrap rejected a change of the tables, and nothing was changed:" >&2; cat "$answer" >&2; echo >&2; exit 1 ;;
  esac
  echo "the bootstrap responded with $status (attempt $try of $tries)" >&2
  [ "$try" -lt "$tries" ] || break
  try=$((try + 1))
  sleep "${PAUSE:-15}"
done
cat "$answer" >&2
echo "the bootstrap did not run: see the log of the function $FUNCTION" >&2
exit 1
