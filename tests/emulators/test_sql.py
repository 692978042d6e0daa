"""`sluice sql` as an analyst runs it."""

import csv
import json
import os
import pathlib
import pty
import select
import shutil
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal

import pytest
from typer.testing import CliRunner, Result

from sluice.cli import app
from sluice.queries import price, queries
from tests.support.shop import Shop
from tests.support.waiting import PATIENCE

ROOT = pathlib.Path(__file__).parents[2]
COST = "scanned 0.0 MiB, billed 0.0 MiB, 0.000000 USD"  # the emulator counts no bytes

type Sluice = Callable[..., Result]


@pytest.fixture
def sluice(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Sluice:
    """Runs `sluice sql` on the shop, without a bucket, as an analyst has none."""
    monkeypatch.setenv("DATASET", shop.settings.dataset)
    monkeypatch.setenv("HISTORICAL_DATASET", shop.settings.historical_dataset)
    monkeypatch.delenv("ARCHIVE_BUCKET", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, ["sql", *arguments])


def test_without_a_name_all_queries_are_listed(sluice: Sluice) -> None:
    result = sluice()
    assert result.exit_code == 0
    for query in queries().values():
        assert query.name in result.stdout
        assert query.question.split()[0] in result.stdout
    assert "min_orders = 5 (1 to 1000000): minimum number of orders with a pair" in result.stdout
    assert "part of `sluice restore --replace`" in result.stdout
    assert "partitions" in result.stdout


def test_the_list_is_for_programs_too(sluice: Sluice) -> None:
    listed = [json.loads(line) for line in sluice("--json").stdout.splitlines()]
    assert [query["name"] for query in listed] == list(queries())
    [low_stock] = [query for query in listed if query["name"] == "low_stock"]
    assert low_stock["parameters"] == [
        {
            "name": "threshold",
            "type": "INT64",
            "default": "10",
            "bounds": None,
            "description": "number of units below which stock is low",
        }
    ]
    assert {query["name"]: query["part_of"] for query in listed if query["part_of"]} == {
        "replace_table": "sluice restore --replace"
    }
    assert (low_stock["subject"], low_stock["cost"]) == ("analytics", "history")
    rows = list(csv.DictReader(sluice("--csv").stdout.splitlines()))
    assert [row["name"] for row in rows] == list(queries())


def test_a_query_shows_a_table_and_its_cost(sluice: Sluice) -> None:
    result = sluice("low_stock", "--param", "threshold=0")
    assert result.exit_code == 0
    [row] = [line for line in result.stdout.splitlines() if "CUP" in line]
    assert row.split()[:3] == ["CUP", "WH-EDGE", "-4"]
    assert "TEA" not in result.stdout
    assert result.stderr == f"{COST}\n"


def test_json_has_a_line_a_row_and_nothing_else_on_standard_output(sluice: Sluice) -> None:
    result = sluice("low_stock", "--param", "threshold=8", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    edge = [(row["product_id"], row["current_stock"]) for row in rows if row["warehouse_id"] == "WH-EDGE"]
    assert edge == [("CUP", -4), ("SAMPLE", 0), ("TEA", 7)]
    assert result.stderr == f"{COST}\n"


def test_csv_has_a_header_and_a_line_a_row(sluice: Sluice) -> None:
    result = sluice("revenue_by_day", "--param", "days=3", "--csv")
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert list(rows[0]) == ["day", "orders", "customers", "units", "revenue", "avg_order_value"]
    assert len(rows) == 4
    assert "E" not in "".join(row["revenue"] for row in rows)


def test_an_empty_answer_still_has_its_columns(sluice: Sluice) -> None:
    arguments = ("low_stock", "--param", "threshold=-1000")
    assert sluice(*arguments, "--json").stdout == ""
    assert sluice(*arguments, "--csv").stdout == "product_id,warehouse_id,current_stock,last_changed_at\n"
    assert "current_stock" in sluice(*arguments).stdout


@pytest.mark.parametrize("name", [name for name, query in queries().items() if query.subject == "analytics"])
def test_a_dry_run_checks_and_estimates_only(sluice: Sluice, name: str) -> None:
    result = sluice(name, "--dry-run")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("valid; would scan 0.0 MiB, 0.000000 USD")


QUERY = "SELECT product_id, SUM(quantity_change) AS units FROM inventory WHERE product_id = 'CUP' GROUP BY product_id;"


def test_statements_of_ones_own_come_from_option_or_input(sluice: Sluice) -> None:
    """Tables without a dataset are those of DATASET."""
    result = sluice("--query", QUERY)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[:2] == ["product_id  units", "----------  -----"]
    assert result.stderr == f"{COST}\n"
    piped = CliRunner().invoke(app, ["sql", "--query", "-", "--json"], input=f"-- Units\n{QUERY}\n")
    assert json.loads(piped.stdout)["product_id"] == "CUP"
    dry = sluice("--query", QUERY, "--dry-run")
    assert (dry.stdout, dry.stderr.startswith("valid; ")) == ("", True)
    wrong = sluice("--query", "SELECT nothing FROM inventory")
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert "nothing" in wrong.stderr


@pytest.mark.usefixtures("sluice")
def test_prompt_completes_tables_and_goes_on_after_errors(tmp_path: pathlib.Path) -> None:
    terminal, end = pty.openpty()
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "TERM": "dumb"}
    with subprocess.Popen(
        [sys.executable, "-m", "sluice.cli", "sql", "--interactive"], stdin=end, stdout=end, stderr=end, env=environment
    ) as process:
        os.close(end)
        shown = b""

        def wait_for(text: bytes) -> None:
            nonlocal shown
            while text not in shown:
                assert select.select([terminal], [], [], PATIENCE)[0], shown
                shown += os.read(terminal, 10_000)
            shown = shown.partition(text)[2]

        for typed, answer in (
            (b"SELECT nothing;\n", b"Failed:"),
            (b"SELECT MIN(product_id) AS low\nFROM inven\t; -- the first\n", b"CUP"),
            (b"exit\n", b"\n"),
        ):
            wait_for(b"sql> ")
            os.write(terminal, typed)
            wait_for(answer)
        assert process.wait(PATIENCE) == 0
    os.close(terminal)
    assert (tmp_path / "sluice" / "sql_history").read_text().splitlines()[-2].startswith("FROM inventory")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["low_sock"], "did you mean low_stock?"),
        (["xyzzy"], "query xyzzy does not exist"),
        (["low_stock", "--param", "treshold=3"], "no parameter treshold; it has threshold"),
        (["low_stock", "--param", "threshold=few"], "threshold: 'few' is not of type INT64"),
        (["revenue_by_day", "--param", "days=-1"], "days: -1 is out of range; allowed is 0 to 3650"),
        (["replace_table", "--param", "table=orders", "--param", "restored=copy"], "run `sluice restore --replace`"),
        (["replace_table", "--dry-run"], "run `sluice restore --replace`"),
        (["low_stock", "--param", "threshold"], "parameter 'threshold' does not have the form NAME=VALUE"),
        (["low_stock", "--param", "threshold=1", "--param", "threshold=2"], "threshold is given twice"),
        (["low_stock", "--json", "--csv"], "exclude each other"),
        (["--dry-run"], "needs a NAME or --query"),
        (["--query", "SELECT 1", "--param", "a=1"], "--param needs the NAME of a query"),
        (["low_stock", "--query", "SELECT 1"], "give only one of NAME, --query and --interactive"),
        (["--interactive"], "--query - reads standard input"),
    ],
)
def test_wrong_argument_is_named(sluice: Sluice, arguments: list[str], message: str) -> None:
    result = sluice(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_a_wrong_setting_is_named(sluice: Sluice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASET", "no-name")
    result = sluice("low_stock")
    assert result.exit_code == 2
    assert "DATASET" in result.stderr


@pytest.mark.parametrize("option", [[], ["--dry-run"]])
def test_bigquerys_error_is_shown_in_its_words(
    sluice: Sluice, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    monkeypatch.setenv("DATASET", "nowhere")
    result = sluice("low_stock", *option)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Not found: Dataset" in result.stderr
    assert "Traceback" not in result.stderr


SCRIPT = """-- Copy what there is
-- {{ copy }} NAME: the copy
-- Cost: table
DECLARE few INT64 DEFAULT 2;
CREATE TABLE `{{ project }}.{{ dataset }}.{{ copy }}` AS SELECT x FROM UNNEST([1, 2, 3]) AS x;
DELETE FROM `{{ project }}.{{ dataset }}.{{ copy }}` WHERE x <= few;
"""


BUCKET = "-- Which bucket?\n-- Cost: metadata\nSELECT '{{ archive_bucket }}' AS bucket\n"


@pytest.fixture
def maintain(shop: Shop, tmp_path: pathlib.Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `sluice sql` with two more queries, in a dataset of its own."""
    for folder in ("functions", "jsonschemas", "sluice", "sql"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "sql" / "maintenance").mkdir(exist_ok=True)
    (tmp_path / "sql" / "maintenance" / "copy.sql").write_text(SCRIPT)
    (tmp_path / "sql" / "maintenance" / "bucket.sql").write_text(BUCKET)
    shop.client.create_dataset("maintained", exists_ok=True)

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sluice.cli", "sql", *arguments],
            cwd=tmp_path,
            env={**os.environ, "DATASET": "maintained", "ARCHIVE_BUCKET": "", **settings},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    return run


def test_script_without_a_result_reports_each_statement(
    maintain: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    result = maintain("copy", "--param", "copy=copy_1", "--json")
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    assert result.stderr.splitlines() == ["create table as select maintained.copy_1: create", "delete: 2 rows", COST]


def test_only_queries_of_the_archive_require_its_bucket(
    maintain: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    rejected = maintain("bucket")
    assert rejected.returncode == 2
    assert "ARCHIVE_BUCKET" in rejected.stderr
    assert json.loads(maintain("bucket", "--json", ARCHIVE_BUCKET="raw").stdout) == {"bucket": "raw"}


def test_the_price_is_that_of_bytes_on_demand() -> None:
    assert price(2**40) == Decimal("6.25")
    assert f"{price(10 * 2**20):.6f}" == "0.000060"


def test_missing_credentials_are_reported_with_the_local_stack(tmp_path: pathlib.Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.endswith("EMULATOR_HOST")}
    process = subprocess.run(
        [sys.executable, "-m", "sluice.cli", "sql", "low_stock"],
        cwd=ROOT,
        env={**kept, "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "none.json")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (process.returncode, process.stdout) == (1, "")
    assert "sluice up" in process.stderr
    assert "Traceback" not in process.stderr
