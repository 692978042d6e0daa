#!/bin/sh
# Get Prometheus' promtool, which evaluates the alerts in the tests: Debian's or Ubuntu's package, unpacked below .venv.
# It needs no root, and changes nothing of the machine. Run by `make promtool`.
set -eu
cd "$(dirname "$0")/.."

command -v apt-get >/dev/null || { echo "no apt-get here; get promtool from https://prometheus.io/download/" >&2; exit 1; }
rm -rf .venv/promtool
mkdir -p .venv/promtool/lists/partial .venv/promtool/cache
cd .venv/promtool
apt() {
  apt-get --quiet --quiet -o Dir::State::Lists="$PWD/lists" -o Dir::Cache="$PWD/cache" -o APT::Sandbox::User="$(id -un)" "$@"
}
apt update
apt download prometheus
dpkg-deb --extract prometheus_*.deb unpacked
mv unpacked/usr/bin/promtool .
rm -rf unpacked lists cache prometheus_*.deb
./promtool --version 2>&1 | head -n 1 >&2
