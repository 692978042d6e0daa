"""The analytics on the emulator, compared with the same answers in plain Python."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from functions.settings import Settings
from sluice.queries import Query, queries
from tests.support.dataset_fixtures import made
from tests.support.expected_answers import ANSWERS, Answer, Facts
from tests.support.shop import Shop

ANALYTICS = {name: query for name, query in queries().items() if query.subject == "analytics"}

OTHER_PARAMETERS: Mapping[str, list[dict[str, str]]] = {
    "basket_analysis": [{"min_orders": "1"}, {"days": "10", "min_orders": "2"}, {"days": "150", "min_orders": "3"}],
    "cart_abandonment": [{"hours": "0"}, {"hours": "48"}, {"days": "1"}, {"days": "25"}],
    "cohort_retention": [{"months": "0"}, {"months": "2"}],
    "customer_lifetime_value": [{"days": "0"}, {"days": "7"}, {"days": "365"}],
    "delivery_time": [{"days": "3"}, {"days": "150"}],
    "low_stock": [{"threshold": "0"}, {"threshold": "30"}],
    "return_and_damage_rates": [{"days": "4"}, {"days": "150"}],
    "revenue_by_day": [{"days": "0"}, {"days": "7"}, {"days": "120"}],
    "revenue_by_product": [{"days": "7"}, {"days": "120"}],
    "user_funnel": [{"hours": "0"}, {"hours": "6"}, {"hours": "480"}],
}

AVERAGES = {"avg_order_value"}
"""Rounded to cents; the emulator averages floats where BigQuery averages NUMERIC, so it may round a half otherwise."""


@pytest.fixture(scope="module")
def facts(shop: Shop) -> Facts:
    return Facts.of(shop)


def expect(facts: Facts, query: Query, given: Mapping[str, str]) -> Answer:
    chosen = {
        name: parameter.value(given.get(name, parameter.default or "")) for name, parameter in query.parameters.items()
    }
    return ANSWERS[query.name](facts, datetime.now(UTC), **chosen)


def about(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row to compare with: equal but for the last bits of floats."""
    tolerant = dict(row)
    for name, value in row.items():
        if name in AVERAGES and value is not None:
            tolerant[name] = pytest.approx(value, abs=Decimal("0.01"))
        elif isinstance(value, float):
            tolerant[name] = pytest.approx(value)
    return tolerant


def compare(shop: Shop, facts: Facts, query: Query, given: Mapping[str, str]) -> Answer:
    """Ask both, again where an event left the window between the two."""
    while True:
        expected = expect(facts, query, given)
        rows = shop.ask(query.name, **given)
        if expected == expect(facts, query, given):
            break
    assert rows == [about(row) for row in expected]
    return rows


def test_every_query_has_an_answer_in_plain_python() -> None:
    assert ANALYTICS.keys() == ANSWERS.keys()
    assert ANALYTICS.keys() == OTHER_PARAMETERS.keys()


@pytest.mark.parametrize("name", ANALYTICS)
def test_a_query_answers_as_plain_python_does(shop: Shop, facts: Facts, name: str) -> None:
    assert len(compare(shop, facts, ANALYTICS[name], {})) > 1


@pytest.mark.parametrize(
    ("name", "given"), [(name, given) for name, choices in OTHER_PARAMETERS.items() for given in choices], ids=str
)
def test_it_does_so_with_other_parameters_too(shop: Shop, facts: Facts, name: str, given: dict[str, str]) -> None:
    compare(shop, facts, ANALYTICS[name], given)


def test_no_answer_is_trivial(shop: Shop) -> None:
    """No number is zero everywhere."""
    for name in ANALYTICS:
        rows = shop.ask(name)
        columns = {column for row in rows for column, value in row.items() if value}
        assert rows
        assert columns == rows[0].keys(), name


def test_empty_tables_have_an_answer_too(shop: Shop) -> None:
    """Nothing fails; the funnel and the days keep their rows, with zeros."""
    settings = Settings(archive_bucket="empty", dataset="empty", historical_dataset="empty_historical")
    empty = Shop(shop.client, settings, {}, {}, [], shop.now)
    nothing = Facts({}, [], [])
    with made(shop.client, settings):
        for query in ANALYTICS.values():
            compare(empty, nothing, query, {})
