#!/bin/sh
# Set the billing of the Cloud Run service $SERVICE in $REGION of $PROJECT to $BILLING: request or instance. Needs gcloud.
# Cloud Run calls it CPU throttling: https://cloud.google.com/run/docs/configuring/billing-settings
set -eu

throttling=$(gcloud run services describe "$SERVICE" --region="$REGION" --project="$PROJECT" --quiet \
  --format='value(spec.template.metadata.annotations["run.googleapis.com/cpu-throttling"])')
case $throttling in
  [Ff]alse) billing=instance ;;
  *) billing=request ;; # Without the annotation, too.
esac
[ "$billing" != "$BILLING" ] || exit 0

case $BILLING in
  instance) flag=--no-cpu-throttling ;;
  *) flag=--cpu-throttling ;;
esac
gcloud run services update "$SERVICE" --region="$REGION" --project="$PROJECT" --quiet "$flag"
echo "$SERVICE is billed by $BILLING" >&2
