"""The commands of a page, run in their order against stand-ins that record what they get."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
from typing import NamedTuple

from tests.support.docs import ROOT

PROGRAMS = ("bq", "curl", "docker", "gcloud", "gh", "git", "make", "openssl", "terraform", ".venv/bin/sluice")

STAND_IN = f"""#!{sys.executable} -IS
import json, os, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([os.environ["SECTION"], os.environ["PROGRAM"], *sys.argv[1:]]) + "\\n")
command = " ".join(sys.argv[1:])
if "--data-file=-" in sys.argv or "--env-file" in sys.argv:
    sys.stdin.read()
if "functions describe" in command:
    print(f"https://{{sys.argv[3]}}-abc-uc.a.run.app")
elif "run services describe" in command:
    print("ingest-00007-abc" if "status.traffic" in command else "ingest-00008-def")
elif "dataflow jobs list" in command:
    print("2026-11-28_00_00_00-1")
elif "projects describe" in command:
    print("123456789")
elif "auth print-identity-token" in command or os.environ["PROGRAM"] == "openssl":
    print("a1b2c3")
elif "config get account" in command:
    print("someone@example.com")
elif "state list" in command:
    print(os.environ["RESOURCES"])
"""

HEADING_OR_BLOCK = re.compile(r"^#+ ([^\n]+)$|^```(\w+)(?: title=\S+)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Call(NamedTuple):
    """A command of the page, as its program got it."""

    program: str
    arguments: list[str]
    section: str = ""

    def option(self, name: str) -> str:
        """Return the value of an option, which is given once."""
        [value] = [argument.partition("=")[2] for argument in self.arguments if argument.startswith(f"--{name}=")]
        return value

    def is_of(self, *words: str) -> bool:
        """Return whether the arguments begin with some words."""
        return self.arguments[: len(words)] == list(words)

    def __str__(self) -> str:
        return shlex.join([self.program, *self.arguments])


def recorded(page: pathlib.Path, place: pathlib.Path, **variables: str) -> list[Call]:
    """Run all commands of a page in their order, and return what its programs got after the shell has done its part."""
    (place / "stand_in.py").write_text(STAND_IN)
    (place / "stand_in.py").chmod(0o755)
    for program in PROGRAMS:
        file = place / (program if "/" in program else f"bin/{program}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'#!/bin/sh\nPROGRAM={program} exec "{place}/stand_in.py" "$@"\n')
        file.chmod(0o755)
    section, script = "", ""
    for heading, language, text in HEADING_OR_BLOCK.findall(page.read_text()):
        section = heading or section
        script += f"export SECTION={shlex.quote(section)}\n{text}" if language == "sh" else ""
    environment = {
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "CALLS": str(place / "calls"),
        "HOME": str(place),
        "RESOURCES": "\n".join(resources()),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=place,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (place / "calls").read_text().splitlines()]
    return [Call(program, arguments, section) for section, program, *arguments in lines]


def resources() -> dict[str, str]:
    """Return the text of each resource of Terraform by its address."""
    text = "\n".join(file.read_text() for file in (ROOT / "terraform").glob("*.tf"))
    blocks = re.findall(r'^resource "(\w+)" "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL)
    return {f"{kind}.{name}": body for kind, name, body in blocks}
