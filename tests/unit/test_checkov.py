"""`make checkov` rejects all findings that are not excepted; the target runs checkov itself."""

import pathlib
import sys

import msgspec
import pytest

from tools import checkov
from tools.checkov import TERRAFORM, Check, Report, Results, findings, written_skips

GOOD = Check("CKV_1", "It is good", "google_storage_bucket.a", "/a.tf", (1, 5))
BAD = Check("CKV_2", "It is locked", "google_storage_bucket.b", "/a.tf", (7, 12))
LEFT_OUT = Check("CKV_2", "It is locked", "google_storage_bucket.a", "/a.tf", (1, 5))

RESOURCE = """resource "google_storage_bucket" "a" {
  #checkov:skip=CKV_2:Nobody but the build comes near it
}
"""


def problems_of(folder: pathlib.Path, text: str, results: Results) -> list[str]:
    (folder / "a.tf").write_text(text)
    return findings(results, written_skips(folder))


def test_an_exception_with_a_reason_is_all_right(tmp_path: pathlib.Path) -> None:
    assert problems_of(tmp_path, RESOURCE, Results([GOOD], [], [LEFT_OUT], [])) == []


@pytest.mark.parametrize(
    ("text", "results", "expected"),
    [
        (
            RESOURCE,
            Results([GOOD], [BAD], [LEFT_OUT], []),
            ["/a.tf:7: google_storage_bucket.b: CKV_2: It is locked"],
        ),
        (RESOURCE, Results([GOOD], [], [LEFT_OUT], ["/b.tf"]), ["/b.tf: checkov cannot read it"]),
        ("", Results([], [], [], []), ["no policy was checked"]),
        (
            RESOURCE.replace("Nobody but the build comes near it", "too noisy"),
            Results([GOOD], [], [LEFT_OUT], []),
            ["/a.tf:2: CKV_2 is left out without a reason"],
        ),
        (RESOURCE, Results([GOOD], [], [], []), ["/a.tf:2: nothing needs the exception to CKV_2"]),
        (
            f"{RESOURCE}\n\n\n{RESOURCE}",
            Results([GOOD], [], [LEFT_OUT], []),
            ["/a.tf:8: nothing needs the exception to CKV_2"],
        ),
        (
            "",
            Results([GOOD], [], [LEFT_OUT], []),
            ["/a.tf:1: google_storage_bucket.a: CKV_2: It is locked: left out elsewhere"],
        ),
    ],
    ids=["failed", "unreadable", "nothing", "no reason", "stale", "one of two is stale", "not written"],
)
def test_failed_policies_are_reported(tmp_path: pathlib.Path, text: str, results: Results, expected: list[str]) -> None:
    assert problems_of(tmp_path, text, results) == expected


@pytest.mark.parametrize(
    "comment", ["#checkov:skip=CKV_2", "# bridgecrew:skip= CKV_2:", "#checkov:skip=:Because I say so"]
)
def test_an_exception_is_seen_however_it_is_written(tmp_path: pathlib.Path, comment: str) -> None:
    (tmp_path / "a.tf").write_text(comment)
    [skip] = written_skips(tmp_path)
    assert findings(Results([GOOD], [], [], []), [skip]) != []


@pytest.mark.parametrize(
    ("report", "status", "passes"),
    [
        (msgspec.json.encode(Report(Results([GOOD], [], [], []))), 0, True),
        (msgspec.json.encode(Report(Results([GOOD], [], [], []))), 2, False),
        (b'{"passed": 0, "failed": 0, "parsing_errors": 0}', 0, False),
        (b"", 0, False),
    ],
    ids=["good", "crashed after all", "no resources", "silent"],
)
def test_only_a_whole_report_passes(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, report: bytes, status: int, passes: bool
) -> None:
    (tmp_path / "report").write_bytes(report)
    program = f"import sys; print(open({str(tmp_path / 'report')!r}).read()); sys.exit({status})"
    monkeypatch.setattr(checkov, "_CHECKOV", (sys.executable, "-c", program))
    assert checkov.check(tmp_path) is passes


def test_exceptions_stand_at_their_resources_only() -> None:
    assert written_skips()
    assert [file.name for file in TERRAFORM.glob(".checkov*")] == [], "checkov would take options from it"
