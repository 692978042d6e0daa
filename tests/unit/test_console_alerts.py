"""The alerts of the console are those of Terraform, and their verdicts follow the thresholds."""

from datetime import UTC, datetime, timedelta

import pytest

from sluice.console.alerts import Facts, alerts, definitions, thresholds
from tests.support import monitoring

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
HEALTHY = Facts(
    now=NOW,
    oldest=timedelta(seconds=1),
    undelivered=0,
    accepted=1_000,
    rejected=0,
    newest=NOW,
    compared=NOW - timedelta(hours=1),
    missing=0,
    conflicts=0,
    billed_bytes=2**30,
    events_of_day=1_000,
)


def states(**facts: object) -> dict[str, str]:
    return {alert.definition.key: alert.state for alert in alerts(HEALTHY.__class__(**{**vars(HEALTHY), **facts}))}


def test_definitions_are_those_of_terraform() -> None:
    written = monitoring.thresholds()
    assert {name: float(value) for name, value in written.items()} == thresholds()
    by_key = monitoring.alerts("functions")
    assert [alert.key for alert in definitions()] == list(by_key)
    for alert in definitions():
        terraform = by_key[alert.key]
        assert (alert.title, alert.severity) == (terraform["title"], terraform["severity"])
        assert f"{alert.for_seconds}s" == terraform.get("for", "0s")


@pytest.mark.parametrize(
    ("key", "facts"),
    [
        ("oldest_message", {"oldest": timedelta(seconds=301)}),
        ("undeliverable", {"undelivered": 1}),
        ("dead_letter_rate", {"accepted": 300, "rejected": 20}),
        ("no_events", {"newest": NOW - timedelta(minutes=61)}),
        ("missing", {"missing": 1}),
        ("conflicting_event_ids", {"conflicts": 1}),
        ("no_reconciliation", {"compared": NOW - timedelta(hours=5)}),
        ("cost", {"billed_bytes": 202 * 2**30}),
    ],
)
def test_an_alert_rings_beyond_its_threshold(key: str, facts: dict[str, object]) -> None:
    assert states()[key] == "ok"
    assert [name for name, state in states(**facts).items() if state == "rings"] == [key]


def test_what_is_not_known_does_not_ring() -> None:
    assert {alert.state for alert in alerts(Facts(now=NOW))} == {"unknown"}


def test_few_dead_letters_do_not_ring() -> None:
    assert states(accepted=1, rejected=19)["dead_letter_rate"] == "ok"
