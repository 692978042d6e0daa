"""Checks the history of a fault test or a soak again, and prints what happened to the events of its violations."""

import argparse
import pathlib
import sys

import msgspec

from tests.history.check import CheckedHistory
from tests.history.timeline import timeline


def main() -> int:
    """Return 1 if the history has violations or no end, and 0 otherwise."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.history",
        description=__doc__,
        epilog="Examples: history.ndjson   history.ndjson --event 6f1c...   history.ndjson --timelines 20",
    )
    parser.add_argument("file", type=pathlib.Path, help="lines of JSON, from a fault test or a soak")
    parser.add_argument("--event", help="print the timeline of this event or load file")
    parser.add_argument("--timelines", type=int, default=3, help="number of violations whose timelines are printed")
    arguments = parser.parse_args()
    if not arguments.file.is_file():
        parser.error(f"{arguments.file} is no file")
    try:
        return _print(arguments)
    except msgspec.DecodeError as error:
        parser.error(f"{arguments.file} is no history: {error}")


def _print(arguments: argparse.Namespace) -> int:
    if arguments.event:
        lines = list(timeline(arguments.file, arguments.event))
        print(*lines or [f"{arguments.file} has no line of {arguments.event}"], sep="\n")
        return not lines
    history = CheckedHistory.read(arguments.file)
    print(*history.violations, sep="\n", end="\n" * bool(history.violations))
    for name in list(dict.fromkeys(violation.name for violation in history.violations))[: arguments.timelines]:
        print(f"\n{name}", *timeline(arguments.file, name), sep="\n")
    totals = history.totals
    print(f"{totals.messages} messages of {totals.events} events, {len(history.violations)} violations")
    if not history.is_complete:
        print("The history has no end: what is stored was not recorded, and the invariants of the end are not checked.")
    return bool(history.violations) or not history.is_complete


if __name__ == "__main__":
    sys.exit(main())
