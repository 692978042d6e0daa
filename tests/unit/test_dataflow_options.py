"""Options of `python -m dataflow.main`: what is wrong is named, with what is allowed, and nothing is begun."""

import json
import os
import pathlib
import re
import shlex
import subprocess

import pytest

from tests.support.beam_process import ENVIRONMENT, HOW_TO_GET, ROOT
from tests.support.requires import missing

pytestmark = pytest.mark.check

TRY = """
import json, sys
from dataflow.pipeline import build
from functions.settings import InvalidSettings
for arguments in json.load(sys.stdin):
    try:
        build(arguments)
        print()
    except InvalidSettings as error:
        print(error)
"""

FILES = ["--runner=FnApiRunner", f"--input_files={ROOT}/pyproject.toml", "--archive_bucket=archive"]
STREAM = [
    "--runner=DataflowRunner",
    "--input_subscription=projects/my-project/subscriptions/s",
    "--archive_bucket=archive",
]

OF_A_LAUNCHER = [
    "--project=my-project",
    "--region=us-central1",
    "--job_name=ingest-1",
    "--temp_location=gs://bucket/tmp",
    "--staging_location=gs://bucket/staging",
    "--template_location=gs://bucket/staging/template_launches/1/job_object",
    '--labels={"goog-dataflow-provided-template-version":"1"}',
    "--service_account_email=worker@my-project.iam.gserviceaccount.com",
    "--num_workers=1",
    "--max_num_workers=4",
    "--worker_machine_type=n2-standard-2",
    "--machine_type=n2-standard-2",
    "--autoscaling_algorithm=THROUGHPUT_BASED",
    "--enable_streaming_engine",
    "--network=n",
    "--subnetwork=regions/us-central1/subnetworks/s",
    "--no_use_public_ips",
    "--dataflow_kms_key=k",
    "--sdk_container_image=image",
    "--experiments=use_runner_v2",
    "--dataflow_service_options=streaming_mode_at_least_once",
    "--update",
    '--transform_name_mapping={"a":"b"}',
    "--worker_disk_type=pd-ssd",
    "--disk_size_gb=30",
    "--no_save_main_session",
]
"""Options that Dataflow's launcher of Flex Templates, or a person, gives to a pipeline in Python."""

CASES = {
    "all is right": (FILES, ""),
    "an empty option is none": ([*FILES, "--linger=", "--shards=", "--batch_rows=", "--schema_version="], ""),
    "a typing error": (
        [*FILES, "--archive_buckett=x"],
        "options: --archive_buckett is unknown; do you mean --archive_bucket?",
    ),
    "an abbreviation": ([*FILES, "--batch_row=5"], "options: --batch_row is unknown; do you mean --batch_rows?"),
    "an argument": ([*FILES, "events"], "options: events is unknown"),
    "a range": (
        [*FILES, "--batch_rows=0"],
        "options: --batch_rows: '0' is wrong: it must be at least 1 and at most 50000",
    ),
    "no number": ([*FILES, "--linger=nan"], "options: --linger: 'nan' is wrong: it must be at least 0 and at most 60"),
    "shards": ([*FILES, "--shards=0"], "options: --shards: '0' is wrong: it must be at least 1 and at most 1000"),
    "a choice": (
        [*FILES, "--ip_policy=drop"],
        "options: --ip_policy: 'drop' is wrong: it must be hash or keep or truncate",
    ),
    "an option of Beam": ([*FILES, "--num_workers=many"], "options: --num_workers: invalid int value: 'many'"),
    "a field": ([*FILES, "--id_fields=order_id"], "options: --id_fields: 'order_id' is no path of a field"),
    "a missing setting": (FILES[:2], "options: --archive_bucket is missing, and so is the variable ARCHIVE_BUCKET"),
    "a missing runner": (FILES[1:], "options: --runner is missing; DataflowRunner runs the pipeline on Dataflow"),
    "no such runner": (["--runner=Foo", *FILES[1:]], "options: Unexpected pipeline runner: Foo. Valid values are "),
    "no source": (FILES[::2], "options: give one of --input_subscription and --input_files"),
    "two sources": ([*FILES, STREAM[1]], "options: give one of --input_subscription and --input_files"),
    "no subscription": (
        ["--input_subscription=orders"],
        "options: --input_subscription: 'orders' is not of the form projects/PROJECT/subscriptions/NAME",
    ),
    "a stream that the runner does not read": (
        [FILES[0], *STREAM[1:]],
        "options: FnApiRunner cannot read --input_subscription",
    ),
    "a file of this machine on Dataflow": (
        [STREAM[0], *FILES[1:]],
        f"options: --input_files: {ROOT}/pyproject.toml is on this machine",
    ),
    "a key that is missing": ([*FILES, "--ip_policy=hash"], "options: --ip_policy=hash needs --ip_hash_key_secret"),
    "what Dataflow needs": (STREAM, "options: Pipeline has validations errors"),
    "what a launcher gives": ([*FILES, *OF_A_LAUNCHER], ""),
}


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The error of each case, all of them by one process, which takes a second to import Beam."""
    if not (ENVIRONMENT / "ready").exists():
        missing(HOW_TO_GET)
    ended = subprocess.run(
        [ENVIRONMENT / "bin" / "python", "-c", TRY],
        input=json.dumps([arguments for arguments, _ in CASES.values()]),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path_factory.mktemp("home"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return dict(zip(CASES, ended.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_an_option_is_taken_or_named(errors: dict[str, str], case: str) -> None:
    _, expected = CASES[case]
    assert errors[case].startswith(expected)
    assert bool(errors[case]) == bool(expected)


def main(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    if not (ENVIRONMENT / "ready").exists():
        missing(HOW_TO_GET)
    return subprocess.run(
        [ENVIRONMENT / "bin" / "python", "-m", "dataflow.main", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_has_the_settings_and_leads_to_those_of_beam() -> None:
    ended = main("--help")
    assert ended.returncode == 0
    for text in ("--input_files FILES", "--batch_rows", "at most 50000", "Beam's own options", "--runner=FnApiRunner"):
        assert text in ended.stdout


def test_a_wrong_option_is_one_line_and_exit_code_2(tmp_path: pathlib.Path) -> None:
    ended = main(*FILES, "--batch_rows=0")
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (2, "", 1)
    ended = main(FILES[0], f"--input_files={tmp_path}/none", FILES[2])
    assert (ended.returncode, ended.stderr) == (
        1,
        f"Failed: {tmp_path}/none: no file, folder or object has this name\n",
    )


def test_workers_of_dataflow_do_not_see_the_key_of_this_machine() -> None:
    """`terraform output settings` exports it, and each worker would fail without it."""
    ended = main(*STREAM, "--ip_policy=hash", IP_HASH_KEY="0123456789abcdef0123456789abcdef")
    assert ended.returncode == 2
    assert "--ip_policy=hash needs --ip_hash_key_secret" in ended.stderr


def test_the_options_of_the_page_are_right() -> None:
    """Only that of its names there is nothing: they are in capitals, in the place of real ones."""
    page = (ROOT / "docs" / "dataflow.md").read_text().replace("\\\n", "")
    [command] = re.findall(r"^\.venv/beam/bin/python -m dataflow\.main (.*)$", page, re.MULTILINE)
    code = (
        "import os, sys; from dataflow.options import *\n"
        "options = parse(sys.argv[1:]); check_source(options); print(variables(options, os.environ)['ARCHIVE_BUCKET'])"
    )
    ended = subprocess.run(
        [ENVIRONMENT / "bin" / "python", "-c", code, *shlex.split(command)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "ARCHIVE_BUCKET": "archive"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout == "archive\n", ended.stderr


WHY = """
import json, sys
from dataflow.main import reason
json.dump([reason(RuntimeError(text)) for text in json.load(sys.stdin)], sys.stdout)
"""

REASONS = {
    "events.ndjson: is not NDJSON [while running 'Read/Read']": "events.ndjson: is not NDJSON",
    "of two\n lines.gz: cannot be read": "of two lines.gz: cannot be read",
    "": "RuntimeError",
    'Traceback (most recent call last):\n  File "a.py", line 1, in a\n    a()\n    ~^^\n'
    '  File "b.py", line 2, in b\n    raise Unreadable(\n      "b")\nfunctions.files.sources.Unreadable: b.gz: is CSV\n'
    "  and more [while running 'Read/Read']\n": "Unreadable: b.gz: is CSV and more",
}
"""Errors of Beam, and the reason that is reported: a worker's process sends its traceback as text."""


def test_why_a_pipeline_failed_is_one_line_with_whole_names() -> None:
    if not (ENVIRONMENT / "ready").exists():
        missing(HOW_TO_GET)
    ended = subprocess.run(
        [ENVIRONMENT / "bin" / "python", "-c", WHY],
        input=json.dumps([*REASONS]),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ended.stdout) == [*REASONS.values()]
