"""There are as many hash keys as Terraform asks for, whatever an earlier run has left."""

import os
import pathlib
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "terraform" / "add_hash_key.sh"

GCLOUD = """#!/bin/sh
cd "$(dirname "$0")"
case "$3" in
  list) ls keys | sort -rn | head -1 ;;
  add) number=$(($(ls keys | wc -l) + 1)); cat > "keys/$number"; echo "$number" ;;
esac
"""


@pytest.mark.parametrize(("there", "asked", "then"), [(0, 1, 1), (1, 1, 1), (1, 3, 3), (2, 1, 2)])
def test_add_hash_key_adds_versions_up_to_the_requested_one(
    tmp_path: pathlib.Path, there: int, asked: int, then: int
) -> None:
    (tmp_path / "gcloud").write_text(GCLOUD)
    (tmp_path / "gcloud").chmod(0o755)
    (tmp_path / "keys").mkdir()
    for number in range(1, there + 1):
        (tmp_path / "keys" / str(number)).write_text("old")
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SECRET": "s", "PROJECT": "p", "VERSION": str(asked)}
    done = subprocess.run(["/bin/sh", str(SCRIPT)], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    keys = {file.name: file.read_text() for file in (tmp_path / "keys").iterdir()}
    assert len(keys) == then
    new = [keys[str(number)] for number in range(there + 1, then + 1)]
    assert len(set(new)) == len(new)
    assert all(len(key) == 44 and key not in done.stdout + done.stderr for key in new)
