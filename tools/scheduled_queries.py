"""Renders the scheduled queries that Terraform deploys: `python -m tools.scheduled_queries` writes their files.

They are the queries of `sql/maintenance/`, as `sluice sql` runs them. A scheduled query takes no parameters of its own,
and only Terraform knows the project, the datasets and the days. So the files in `terraform/scheduled_queries/` are
templates of Terraform's, which fills in `${dataset}`, `${days}` and the others.
"""

import pathlib
from collections.abc import Mapping

from functions.sql import render
from sluice.queries import EventTable, Query, queries, with_literals

FOLDER = pathlib.Path(__file__).parent.parent / "terraform" / "scheduled_queries"

_NAMES = {name: f"${{{name}}}" for name in ("project", "dataset", "historical_dataset", "retention_days", "table")}
"""Names of the templates, with the variables of Terraform that have their values."""

_TIME = "{now}"


def rendered() -> dict[str, str]:
    """Return the text of each file by its name."""
    history, snapshot = queries()["keep_history"], queries()["snapshot"]
    table = EventTable("${event_type}", "${table}", "${time_field}")
    return {
        "keep_history.sql": _comment(history)
        + _statement(history, {"days": "${days}", "overdue": history.parameters["overdue"].default or ""}, table),
        "snapshot.sql": _comment(snapshot) + _at_run_time(_statement(snapshot, {"days": "${days}"}, table)),
    }


def _comment(query: Query) -> str:
    return f"-- {query.question}\n-- Rendered from sql/maintenance/{query.name}.sql.\n"


def _statement(query: Query, literals: Mapping[str, str], table: EventTable) -> str:
    names = {**_NAMES, "snapshot": f"{table.table}_{_TIME}"}
    return with_literals(render(query.template.lstrip(), **names, event_types=[table]), literals)


def _at_run_time(statement: str) -> str:
    """Return a statement that runs another one, with the time of the run in the place of `{now}`.

    The name of a snapshot ends with its time, in the form in which `sluice snapshot` writes it.
    """
    time = "FORMAT_TIMESTAMP('%Y%m%dT%H%M%S', CURRENT_TIMESTAMP())"
    return f"EXECUTE IMMEDIATE REPLACE(r'''\n{statement}''', '{_TIME}', {time})\n"


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in rendered().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
