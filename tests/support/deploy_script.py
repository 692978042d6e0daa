"""`.ci/deploy`, run against stand-ins for gcloud and the bootstrap."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]

GCLOUD = f"""#!{sys.executable} -IS
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
command = " ".join(sys.argv[1:])
if command.startswith("storage cat"):
    sys.stdout.buffer.write((here / "object").read_bytes())
elif "allTrafficOnLatestRevision" in command:
    print(os.environ["LATEST"])
elif command.startswith("functions describe"):
    print("https://bootstrap-abc.a.run.app", "ALLOW_ALL", "sluice-dev-bootstrap-00002-abc", sep="\\t")
elif command.startswith("auth print-identity-token"):
    print("a-token")
"""

CURL = """#!/bin/sh
cat > /dev/null
echo '["curl"]' >> "$(dirname "$0")/calls"
printf %s "$STATUS"
"""


def deploy(
    place: pathlib.Path, status: int = 200, stored: bytes = b"a package", latest: str = "True", **variables: str
) -> tuple[int, list[list[str]]]:
    """Run the script in an empty folder, and return its exit code and the commands that it gave.

    Args:
        place: The folder.
        status: HTTP status of the bootstrap.
        stored: The package that the bucket has under its name.
        latest: Whether the traffic goes to the latest revision.
        variables: More variables of GitHub's environment.
    """
    for name, text in {"gcloud": GCLOUD, "curl": CURL}.items():
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    (place / "sluice.zip").write_bytes(b"a package")
    (place / "object").write_bytes(stored)
    given = {"GOOGLE_CLOUD_PROJECT": "a-project", "LOCATION": "us-central1", "SLUICE_NAME": "sluice-dev"}
    environment = {"PATH": f"{place}:{os.environ['PATH']}", "STATUS": str(status), "PACKAGES_BUCKET": "packages"}
    environment["LATEST"] = latest
    done = subprocess.run(
        [ROOT / ".ci" / "deploy", place / "sluice.zip"],
        env={**given, **variables, **environment},
        capture_output=True,
        check=False,
    )
    (place / "said").write_bytes(done.stderr)
    return done.returncode, [json.loads(line) for line in (place / "calls").read_text().splitlines()]
