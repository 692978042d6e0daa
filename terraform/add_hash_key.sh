#!/bin/sh
# Add keys to the secret $SECRET of $PROJECT until it has version $VERSION. Needs gcloud.
# A key is piped from /dev/urandom to Secret Manager, and stored nowhere else.
set -eu

version=$(gcloud secrets versions list "$SECRET" --project="$PROJECT" --sort-by=~name --limit=1 --format='value(name.basename())' --quiet)
version=${version:-0}
while [ "$version" -lt "$VERSION" ]; do
  version=$(head -c 32 /dev/urandom | base64 | tr -d '\n' |
    gcloud secrets versions add "$SECRET" --project="$PROJECT" --data-file=- --format='value(name.basename())' --quiet)
  echo "made version $version of $SECRET" >&2
done
