#!/bin/sh
# Make .venv with Python 3.13 and exactly the packages that a lock file pins. Run by `make`.
#   sh tools/environment.sh local    what the demo, the local stack and the command need: requirements-local.txt
#   sh tools/environment.sh          these, and what tests and checks need: requirements-dev.txt
set -eu
cd "$(dirname "$0")/.."

case "${1:-dev}" in
  local) what="the command and the local stack" lock=requirements-local.txt ready=.venv/local-ready
    size="87 packages, 200 MB to download, 700 MB on disk"
    export PIP_NO_COMPILE=1 ;; # Python compiles what the demo imports, which is quicker than all.
  *) what="tests and checks" lock=requirements-dev.txt ready=".venv/local-ready .venv/ready"
    size="172 packages, 360 MB to download, 1300 MB on disk, less what is there"
    export UV_COMPILE_BYTECODE=1 ;;
esac

is_3_13() {
  "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' >/dev/null 2>&1
}

# uv installs in two seconds what pip, which comes with Python, installs in ten.
if uv=$(command -v uv); then
  pip=--without-pip
  install() { "$uv" pip install --quiet --python .venv/bin/python --no-deps "$@"; }
else
  pip=
  # An environment of uv has no pip.
  if [ -x .venv/bin/python ]; then .venv/bin/python -m pip --version >/dev/null 2>&1 || rm -rf .venv; fi
  install() { PYTHONWARNINGS=ignore .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "$@"; }
fi

if [ -x .venv/bin/python ] && is_3_13 .venv/bin/python; then
  :
elif is_3_13 python3.13; then
  python3.13 -m venv --clear $pip .venv
elif is_3_13 python3; then
  python3 -m venv --clear $pip .venv
elif [ "$uv" ]; then
  "$uv" venv --quiet --clear --python 3.13 .venv
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

# The lock file names every package, so nothing is left to resolve.
echo "installing what $what need into .venv: $size" >&2
install --require-hashes -r "$lock"
install --no-build-isolation --editable .
touch $ready
