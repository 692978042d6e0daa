#!/bin/sh
# Get Chromium, in which the tests visit the console: Debian's package, if this machine has no Chromium or Chrome. Run by
# `make chromium`.
set -eu

for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || {
  echo "install chromium or Google Chrome: sudo apt install chromium, or https://www.chromium.org/getting-involved/download-chromium/" >&2
  exit 1
}
apt-get --quiet --quiet update
DEBIAN_FRONTEND=noninteractive apt-get --quiet --quiet --yes install chromium >/dev/null
chromium --version >&2
