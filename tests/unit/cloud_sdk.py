"""Google's Cloud SDK, asked what needs no network and no account."""

import os
import pathlib
import shutil
import subprocess

from tests.missing import missing

HOW_TO_GET = "Google's Cloud SDK is not there: https://cloud.google.com/sdk/docs/install, or Debian's google-cloud-cli"


def run(program: str, *arguments: str, home: pathlib.Path) -> str:
    """What a program of the SDK prints; the test is skipped where it is missing, and fails in CI.

    Args:
        program: `gcloud` or `bq`.
        arguments: Of the program.
        home: A folder of the test's own, so that no configuration is read or written.
    """
    found = shutil.which(program)
    if found is None:
        missing(HOW_TO_GET)
    quiet = {"CLOUDSDK_CONFIG": str(home), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1", "HOME": str(home)}
    done = subprocess.run(
        [found, *arguments], env={**os.environ, **quiet}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout, done.stderr  # `bq help` ends with 1
    return done.stdout
