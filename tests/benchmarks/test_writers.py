"""Both writers of rows are measured on the same rows."""

from benchmarks.writers import batches, measure, usd_of_million


def test_both_writers_are_measured() -> None:
    table = measure(events=20, repetitions=1)
    assert [row[0] for row in table.rows] == ["insertAll", "Storage Write API"]
    assert all(cell != "0" for row in table.rows for cell in row)


def test_the_storage_write_api_costs_a_fifth() -> None:
    """The prices are those of sluice/cost/prices.py; insertAll bills 1 KiB for most rows."""
    usd = usd_of_million(batches(100))
    assert 4 < usd["insertAll"] / usd["Storage Write API"] < 6
