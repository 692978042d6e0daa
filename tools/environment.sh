#!/bin/sh
# Make .venv: Python 3.13, and exactly the packages that requirements-dev.txt pins. Run by `make`.
set -eu
cd "$(dirname "$0")/.."

is_3_13() {
  "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' >/dev/null 2>&1
}

if [ -x .venv/bin/python ] && is_3_13 .venv/bin/python; then
  :
elif is_3_13 python3.13; then
  python3.13 -m venv --clear .venv
elif is_3_13 python3; then
  python3 -m venv --clear .venv
elif command -v uv >/dev/null 2>&1; then
  uv venv --quiet --clear --seed --python 3.13 .venv
else
  cat >&2 <<'HELP'
Sluice needs Python 3.13, as python3.13, as python3, or through uv; none of them is here. To get it:
  with uv        https://docs.astral.sh/uv/getting-started/installation/ (then run make again)
  on macOS       brew install python@3.13
  on Fedora      sudo dnf install python3.13
  on Ubuntu      sudo add-apt-repository ppa:deadsnakes/ppa && sudo apt install python3.13-venv
  elsewhere      https://www.python.org/downloads/
HELP
  exit 1
fi

echo "installing the pinned packages into .venv" >&2
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
PYTHONWARNINGS=ignore .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
touch .venv/ready
