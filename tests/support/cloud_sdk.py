"""Google's Cloud SDK, asked what needs no network and no account."""

import json
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Collection, Sequence

from tests.support.requires import missing
from tests.support.waiting import PATIENCE

HOW_TO_GET = "Google's Cloud SDK is not there: https://cloud.google.com/sdk/docs/install, or Debian's google-cloud-cli"


def run(program: str, *arguments: str, home: pathlib.Path) -> str:
    """Return the output of a program of the SDK; the test is skipped where it is missing, and fails in CI.

    Args:
        program: `gcloud` or `bq`.
        arguments: Of the program.
        home: A folder of the test's own, so that no configuration is read or written.
    """
    executable = shutil.which(program)
    if executable is None:
        missing(HOW_TO_GET)
    quiet = {"CLOUDSDK_CONFIG": str(home), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1", "HOME": str(home)}
    done = subprocess.run(
        [executable, *arguments],
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout, done.stderr  # `bq help` ends with 1
    return done.stdout


def rejected_commands(commands: Collection[str], home: pathlib.Path) -> list[str]:
    """Return the commands whose names, flags or values gcloud rejects, with the reason."""
    home.mkdir(exist_ok=True)
    file = home / "commands.json"
    file.write_text(json.dumps([{"command_string": command} for command in commands]))
    checked = json.loads(run("gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}", home=home))
    assert len(checked) == len(commands)
    return [f"{result['command_string']}: {result['error_message']}" for result in checked if not result["success"]]


BQ_COMMANDS = {"cp", "ls", "mk", "query", "rm"}


def unknown_flags(commands: Collection[Sequence[str]], home: pathlib.Path) -> list[str]:
    """Return the flags of bq that the command they are given to does not have.

    Args:
        commands: The arguments of each call.
        home: As for `run`.
    """
    used: dict[str, set[str]] = {}
    for arguments in commands:
        [command] = [argument for argument in arguments if argument in BQ_COMMANDS][:1]
        used.setdefault(command, set()).update(
            argument.partition("=")[0] for argument in arguments if argument[0] == "-"
        )
    unknown = []
    for command, flags in used.items():
        text = run("bq", "help", command, home=home)
        known_flags = {f"--{name}" for name in re.findall(r"--(?:\[no\])?([a-z_]+)", text)}
        known_flags |= {f"--no{name}" for name in re.findall(r"--\[no\]([a-z_]+)", text)}
        known_flags |= set(re.findall(r"(?:^|\s)(-[a-z]),--", text)) | {"--location", "--nouse_legacy_sql", "--format"}
        unknown += [f"bq {command} {flag}" for flag in sorted(flags - known_flags)]
    return unknown
