#!/bin/sh
# Run the bootstrap function at $URI as the service account $ACCOUNT, and fail as it fails. Needs gcloud and curl.
# Permissions that were granted a moment ago take minutes to arrive, so what looks like a missing one is tried again.
set -eu

for tool in gcloud curl; do
  command -v "$tool" >/dev/null || { echo "the bootstrap was not run: there is no $tool on this machine" >&2; exit 1; }
done

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

tries=${TRIES:-20}
try=1
while :; do
  status=000
  if token=$(gcloud auth print-identity-token --quiet --impersonate-service-account="$ACCOUNT" --audiences="$URI" --include-email); then
    status=$(printf 'header = "Authorization: Bearer %s"\n' "$token" |
      curl --silent --show-error --max-time 620 --config - --request POST --data '' --output "$answer" --write-out '%{http_code}' "$URI") || true
  fi
  case $status in
    200) cat "$answer"; echo; exit 0 ;;
    409) echo "the bootstrap refuses to change the tables, and nothing was touched:" >&2; cat "$answer" >&2; echo >&2; exit 1 ;;
  esac
  echo "the bootstrap answered $status (try $try of $tries)" >&2
  [ "$try" -lt "$tries" ] || break
  try=$((try + 1))
  sleep "${PAUSE:-15}"
done
cat "$answer" >&2
echo "the bootstrap did not run: see the log of the function at $URI" >&2
exit 1
