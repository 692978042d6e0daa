#!/bin/sh
# Get Spin, which checks the models of tests/model: Debian's or Ubuntu's package, unpacked below .venv, if this machine has
# none. It needs no root, and changes nothing of the machine. Spin needs a C compiler. Run by `make spin`.
set -eu
cd "$(dirname "$0")/.."

command -v gcc >/dev/null || { echo "gcc is missing: sudo apt install gcc" >&2; exit 1; }
if command -v spin >/dev/null; then exit 0; fi
command -v apt-get >/dev/null || { echo "no apt-get here; get Spin from https://spinroot.com" >&2; exit 1; }
rm -rf .venv/spin
mkdir -p .venv/spin/lists/partial .venv/spin/cache
cd .venv/spin
apt() {
  apt-get --quiet --quiet -o Dir::State::Lists="$PWD/lists" -o Dir::Cache="$PWD/cache" -o APT::Sandbox::User="$(id -un)" "$@"
}
apt update
apt download spin
dpkg-deb --extract spin_*.deb unpacked
mv unpacked/usr/bin/spin .
rm -rf unpacked lists cache spin_*.deb
./spin -V >&2
