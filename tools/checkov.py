"""`make checkov`: checkov's policies for `terraform/`, and the exceptions, each with its reason where it applies.

Exit code 1 where a policy is not kept, where checkov cannot read a file, and where an exception gives no reason or is
not needed. Nobody on the network is asked.
"""

import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.text import Text

ROOT = pathlib.Path(__file__).parent.parent
TERRAFORM = ROOT / "terraform"

_CHECKOV = (str(ROOT / ".venv" / "checkov" / "bin" / "checkov"), f"--config-file={ROOT / '.checkov.yaml'}")

_SKIP = re.compile(r"(?:checkov|bridgecrew|cortex):skip= *([\w,-]*)(?::(.*))?")
"""Pattern by which checkov finds an exception."""

_WORDS = 5
"""Minimum words of an explanation: "too noisy" is none."""

_console = Console(stderr=True, soft_wrap=True, highlight=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Skip:
    """An exception as it is written.

    Attributes:
        file: File below `terraform/`, with a leading slash, as checkov names files.
        line: Line number, from 1.
        policy: Id of the policy, such as CKV_GCP_62.
        reason: Reason why the policy does not apply here.
    """

    file: str
    line: int
    policy: str
    reason: str


class Check(msgspec.Struct, frozen=True):
    """A policy at a resource, as checkov reports it."""

    check_id: str
    check_name: str
    resource: str
    file_path: str
    file_line_range: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.file_path}:{self.file_line_range[0]}: {self.resource}: {self.check_id}: {self.check_name}"

    def is_left_out_by(self, skip: Skip) -> bool:
        """Return whether the exception is about this."""
        first, last = self.file_line_range
        return (self.file_path, self.check_id) == (skip.file, skip.policy) and first <= skip.line <= last


class Results(msgspec.Struct, frozen=True):
    """All policies at all resources, by what has become of them."""

    passed_checks: Sequence[Check]
    failed_checks: Sequence[Check]
    skipped_checks: Sequence[Check]
    parsing_errors: Sequence[str]


class Report(msgspec.Struct, frozen=True):
    """Output of checkov with `--output=json`; for a folder without resources it has another form."""

    results: Results


def written_skips(folder: pathlib.Path = TERRAFORM) -> list[Skip]:
    """Return all exceptions in a folder."""
    return [
        Skip(f"/{file.relative_to(folder).as_posix()}", number, match[1], (match[2] or "").strip())
        for file in sorted(folder.rglob("*.tf"))
        for number, line in enumerate(file.read_text().splitlines(), 1)
        for match in _SKIP.finditer(line)
    ]


def findings(results: Results, skips: Sequence[Skip]) -> list[str]:
    """Return a line for each problem that has to be fixed.

    Args:
        results: Results that checkov reported.
        skips: The exceptions that are written; those that checkov reports have to be the same.
    """
    reported = results.skipped_checks
    return [
        *([] if results.passed_checks else ["no policy was checked"]),
        *(f"{file}: checkov cannot read it" for file in results.parsing_errors),
        *map(str, results.failed_checks),
        *(
            f"{skip.file}:{skip.line}: {skip.policy} is left out without a reason"
            for skip in skips
            if len(skip.reason.split()) < _WORDS
        ),
        *(
            f"{skip.file}:{skip.line}: nothing needs the exception to {skip.policy or 'no policy'}"
            for skip in skips
            if not any(reported_skip.is_left_out_by(skip) for reported_skip in reported)
        ),
        *(
            f"{reported_skip}: left out elsewhere"
            for reported_skip in reported
            if not any(map(reported_skip.is_left_out_by, skips))
        ),
    ]


def check(folder: pathlib.Path = TERRAFORM) -> bool:
    """Check a folder, print the findings, and return whether there are none."""
    with tempfile.TemporaryDirectory() as home:  # the same for all users: no personal settings, no account
        environment = {"PATH": os.environ["PATH"], "HOME": home}
        command = [*_CHECKOV, f"--directory={folder}"]
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, check=False)  # noqa: S603 - ours
    try:
        results = msgspec.json.decode(done.stdout, type=Report).results
    except msgspec.DecodeError as error:
        _console.print(Text(f"checkov gave no report: {error}\n{(done.stdout + done.stderr).decode(errors='replace')}"))
        return False
    skips = written_skips(folder)
    problems = findings(results, skips)
    for line in problems:
        _console.print(Text(line, "bold red"))
    passed = len(results.passed_checks)
    _console.print(f"{passed} checks passed, {len(results.skipped_checks)} left out, {len(problems)} to fix.")
    return not problems and done.returncode == 0


if __name__ == "__main__":
    sys.exit(not check())
