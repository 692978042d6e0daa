"""The models of the durability protocol hold all of their properties, and a defect in them violates one."""

import os
import pathlib
import re
from typing import NamedTuple

import pytest

from tests.support import fault_report
from tests.support.spin import Search, search

pytestmark = pytest.mark.check


class Model(NamedTuple):
    """A model, as far as it is checked at once.

    Attributes:
        name: Name of the file.
        parts: What runs at once.
        macros: The macros that choose it.
        claim: The property: `safety` is all of them that hold in every state.
        is_fair: Whether the property is about the end.
    """

    name: str
    parts: str
    macros: tuple[str, ...]
    claim: str = "safety"
    is_fair: bool = False


class Defect(NamedTuple):
    """A defect of a model, and the property that it violates.

    Attributes:
        name: Name of its macro.
        model: Model that it is planted into.
        claim: The property.
    """

    name: str
    model: Model
    claim: str


REPAIR = Model("delivery", "two instances; the tables are lost and repaired", ("REPAIR",))
ERASURE = Model("delivery", "two instances, a repair, an erasure", ("ERASURE",))
DELIVERED = Model("delivery", "two instances, two faults", ("MAX_FAULTS=2",), "each_is_acknowledged", is_fair=True)
THREE_FILES = Model("batch", "two runs, three files", ())
JOBS_FAIL = Model("batch", "two runs, two files; jobs fail, rows are bad", ("JOBS_FAIL",))
LOADED = Model(
    "batch",
    "two runs, two files; jobs fail, rows are bad; one fault",
    ("JOBS_FAIL", "MAX_FAULTS=1"),
    "each_is_loaded",
    is_fair=True,
)
COMPACTIONS = Model("archive", "two compactions, a late object", ("LATE_OBJECT",))
ONE_COMPACTION = Model(
    "archive", "a compaction, an erasure, a late object", ("LATE_OBJECT", "ONE_COMPACTION", "ERASURE")
)
ALL_AT_ONCE = Model("archive", "two compactions, an erasure; whole hours, no damage", ("ERASURE", "SIMPLE_WRITES"))
READER = Model("archive", "two compactions, a reader", ("READER",))
READER_OF_LATE = Model("archive", "a compaction, a reader, a late object", ("READER", "ONE_COMPACTION", "LATE_OBJECT"))
READER_OF_ERASED = Model("archive", "a compaction, an erasure, a reader", ("READER", "ONE_COMPACTION", "ERASURE"))
COPIES = Model(
    "archive",
    "a compaction, an erasure, one fault",
    ("ONE_COMPACTION", "ERASURE", "MAX_FAULTS=1"),
    "all_copies_go",
    is_fair=True,
)

MODELS = (
    REPAIR,
    ERASURE,
    DELIVERED,
    THREE_FILES,
    JOBS_FAIL,
    LOADED,
    COMPACTIONS,
    ONE_COMPACTION,
    ALL_AT_ONCE,
    READER,
    READER_OF_LATE,
    READER_OF_ERASED,
    COPIES,
)

DEFECTS = (
    Defect("FAILED_UPLOAD_IS_SUCCESS", REPAIR, "acknowledged_is_archived"),
    Defect("ACKNOWLEDGED_FIRST", REPAIR, "acknowledged_is_recorded"),
    Defect("FAILED_INSERT_IS_SUCCESS", REPAIR, "acknowledged_is_recorded"),
    Defect("REJECTED_IS_DROPPED", REPAIR, "acknowledged_is_recorded"),
    Defect("REJECTED_ROW_IS_NOT_REPAIRED", REPAIR, "acknowledged_is_recorded"),
    Defect("FAILED_UPLOAD_IS_SUCCESS", REPAIR, "record_has_its_object"),
    Defect("DELIVERED_DURING_ERASURE", ERASURE, "erased_is_gone"),
    Defect("REPAIR_NOT_STOPPED", ERASURE, "erased_is_gone"),
    Defect("TABLES_ERASED_FIRST", ERASURE, "erased_is_gone"),
    Defect("YOUNG_ROWS_STAY", ERASURE, "erased_is_gone"),
    Defect("BAD_EVENT_FAILS_ITS_BATCH", DELIVERED, "each_is_acknowledged"),
    Defect("RUNNING_IS_DONE", JOBS_FAIL, "nothing_is_lost"),
    Defect("FAILED_IS_DONE", JOBS_FAIL, "nothing_is_lost"),
    Defect("STARTED_BEFORE_LEDGER", THREE_FILES, "file_is_loaded_once"),
    Defect("LEDGER_REPLACED_BLINDLY", THREE_FILES, "file_is_loaded_once"),
    Defect("JOB_ID_IS_RANDOM", THREE_FILES, "file_is_loaded_once"),
    Defect("FILES_LISTED_FIRST", THREE_FILES, "job_has_its_files"),
    Defect("NOT_STARTED_AGAIN", LOADED, "each_is_loaded"),
    Defect("DELETED_BEFORE_FINISHED", COMPACTIONS, "nothing_is_lost"),
    Defect("NOT_VERIFIED", COMPACTIONS, "nothing_is_lost"),
    Defect("UNFINISHED_IS_DELETED_BLINDLY", COMPACTIONS, "nothing_is_lost"),
    Defect("REWRITTEN_BLINDLY", ONE_COMPACTION, "nothing_is_lost"),
    Defect("COMPACTED_NOT_LISTED_AGAIN", COMPACTIONS, "nothing_counts_twice"),
    Defect("DELETED_IS_NOT_LOOKED_UP", READER, "reader_sees_each_once"),
    Defect("UNFINISHED_COUNTS", READER, "reader_sees_each_once"),
    Defect("ORIGINALS_NOT_LISTED_AGAIN", ONE_COMPACTION, "erased_is_gone"),
    Defect("ERASED_ONCE", ONE_COMPACTION, "erased_is_gone"),
    Defect("UNFINISHED_STAYS", COPIES, "all_copies_go"),
)

SEEN: dict[Model, Search] = {}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.name}: {model.parts}")
def test_all_states_of_the_model_have_the_property(model: Model, tmp_path: pathlib.Path) -> None:
    SEEN[model] = result = search(model.name, model.macros, model.claim, tmp_path, is_fair=model.is_fair)
    assert result.is_complete, result.output
    assert result.errors == 0, result.output


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: f"{defect.name} violates {defect.claim}")
def test_a_defect_violates_a_property(defect: Defect, tmp_path: pathlib.Path) -> None:
    model = defect.model
    result = search(model.name, [*model.macros, defect.name], defect.claim, tmp_path, is_fair=model.is_fair)
    assert result.errors == 1, result.output


def test_each_property_is_violated_by_a_defect() -> None:
    """A property that no defect violates may be one that nothing can violate."""
    violated = {(defect.model.name, defect.claim) for defect in DEFECTS}
    assert violated >= {(model.name, model.claim) for model in MODELS if model.claim != "safety"}
    for name in {model.name for model in MODELS}:
        text = (pathlib.Path(__file__).parent / f"{name}.pml").read_text()
        assert {claim for file, claim in violated if file == name} | {"safety"} == set(
            re.findall(r"^ltl (\w+)", text, re.MULTILINE)
        )
        assert {defect.name for defect in DEFECTS if defect.model.name == name} <= set(re.findall(r"\w+", text))


def test_the_tables_of_the_models_are_current() -> None:
    if "UPDATE_DOCS" in os.environ and SEEN.keys() == set(MODELS):
        lines = ["| model | at once | property | states | depth |", "| --- | --- | --- | --: | --: |"]
        lines += [
            f"| {model.name} | {model.parts} | {_words(model.claim)} | {seen.states} | {seen.depth} |"
            for model, seen in SEEN.items()
        ]
        fault_report.write("models", "\n".join(lines) + "\n")
    defects = ["| model | planted defect | violates |", "| --- | --- | --- |"]
    defects += [f"| {model.name} | {_words(name)} | {_words(claim)} |" for name, model, claim in DEFECTS]
    table = "\n".join(defects) + "\n"
    if "UPDATE_DOCS" in os.environ:
        fault_report.write("planted defects", table)
    assert fault_report.section("planted defects") == table, "run UPDATE_DOCS=1 .venv/bin/pytest tests/model"
    rows = re.findall(r"^\| (\w+) \| (.+?) \| .+ \| \d", fault_report.section("models"), re.MULTILINE)
    assert rows == [(model.name, model.parts) for model in MODELS], "run UPDATE_DOCS=1 .venv/bin/pytest tests/model"


def _words(name: str) -> str:
    return name.lower().replace("_", " ")
