"""Mutation testing of the core and of ingest: mutmut changes the code, and the unit tests should fail.

`make mutation` runs it, writes docs/mutation.md, and fails if the score is below 90 %. It takes about an hour on two
cores, and goes on where an earlier run was interrupted. Most of that time is waiting for mutants that never end.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Mapping

from sluice.doc_tables import Table, fill_tables

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "mutation.md"
MUTANTS = ROOT / "mutants"
MUTMUT = ROOT / ".venv" / "mutation"

MINIMUM = 0.9
"""Minimum score of all modules together."""

_VERDICTS: Mapping[int | None, str] = {
    0: "survived",
    1: "killed",
    3: "killed",
    5: "untested",
    33: "untested",
    **dict.fromkeys((-24, 24, 36, 152, 255), "killed"),
}
"""Verdicts by mutmut's exit codes; a mutant that never ends is killed, too."""


def counts(meta: Mapping[str, int | None]) -> collections.Counter[str]:
    """Count the verdicts of a module's mutants.

    Args:
        meta: Exit codes of the tests by mutant, as mutmut writes them.

    Raises:
        ValueError: A mutant was not checked, or its tests crashed.
    """
    if unchecked := [name for name, code in meta.items() if code not in _VERDICTS]:
        raise ValueError(f"{len(unchecked)} mutants have no verdict, for example {unchecked[0]}; run it again")
    return collections.Counter(_VERDICTS[code] for code in meta.values())


def score(verdicts: collections.Counter[str]) -> float:
    """Return the share of the mutants that the tests kill; a mutant without a test survives."""
    return verdicts["killed"] / verdicts.total()


def _modules() -> Iterator[tuple[str, collections.Counter[str]]]:
    for file in sorted(MUTANTS.rglob("*.meta")):
        meta = json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"]
        if meta:
            yield str(file.relative_to(MUTANTS)).removesuffix(".meta"), counts(meta)


def table(modules: Mapping[str, collections.Counter[str]]) -> Table:
    """Return the table of the page.

    Args:
        modules: Verdicts by module.
    """
    everything = sum(modules.values(), collections.Counter[str]())
    rows = [
        [name, *(str(verdicts[verdict]) for verdict in ("killed", "survived", "untested")), f"{score(verdicts):.0%}"]
        for name, verdicts in [*modules.items(), ("all", everything)]
    ]
    return Table("mutation", "Mutation score", ("module", ">killed", ">survived", ">without a test", ">score"), rows)


def main() -> int:
    """Run mutmut, print the score of each module, and write it into the page; return 1 if the score is too low."""
    environment = os.environ | {"PYTHONPATH": str(MUTMUT)}
    # Most of the mutants that run at the same time wait for their timeout.
    subprocess.run(
        [sys.executable, "-m", "mutmut", "run", "--max-children", "20"], cwd=ROOT, env=environment, check=True
    )
    modules = dict(_modules())
    scores = table(modules)
    scores.show()
    PAGE.write_text(fill_tables(PAGE.read_text(encoding="utf-8"), [scores]), encoding="utf-8")
    return score(sum(modules.values(), collections.Counter[str]())) < MINIMUM


if __name__ == "__main__":
    raise SystemExit(main())
