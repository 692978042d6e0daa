"""Objects of Cloud Storage as files: listed by folders, so that many workers share them."""

import collections
from collections.abc import Iterator

import pytest

from functions.files.sources import SourceListing, Unreadable, check, find, source, split
from sluice.local.stack import Emulators
from tests.support.datasets import Datasets, fresh_datasets

NAMES = (
    "raw/dt=2026-11-22/hr=23/a",
    "raw/dt=2026-11-23/hr=00/b",
    "raw/dt=2026-11-23/hr=01/c",
    "raw/dt=2026-11-23/hr=01/deep/er/d",
    "raw/dt=2026-11-23/e",
    "raw/f",
    "exports/orders-1",
    "exports/orders-2",
)


@pytest.fixture(scope="module")
def datasets(running_emulators: Emulators) -> Iterator[Datasets]:
    with fresh_datasets(running_emulators) as fresh:
        bucket = fresh.storage.bucket(fresh.settings.archive_bucket)
        for name in NAMES:
            bucket.blob(name).upload_from_string(f'{{"name": "{name}"}}\n')
        yield fresh


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("", 5),
        ("raw/", 6),
        ("raw/**", 6),
        ("raw/dt=2026-11-23/", 4),
        ("raw/dt=2026-11-23/hr=0[01]/*", 4),
        ("raw/dt=2026-11-2*/hr=01/**", 6),
        ("exports/orders-", 1),
        ("exports/orders-*", 1),
        ("exports/orders-1", 1),
        ("exports/orders-?", 1),
        ("exports/orders-[12]", 1),
    ],
)
def test_the_parts_of_a_name_are_all_its_objects_once(datasets: Datasets, name: str, parts: int) -> None:
    full = f"gs://{datasets.settings.archive_bucket}/{name}"
    divided = [SourceListing(*part) for part in split(full, lambda: datasets.storage)]
    listed = collections.Counter(source.name for part in divided for source in part.sources(lambda: datasets.storage))
    assert listed == {source.name: 1 for source in find([full], lambda: datasets.storage)}
    assert len(divided) == parts


@pytest.mark.parametrize(("name", "objects"), [("orders-?", "12"), ("orders-[2-9]", "2"), ("orders-[1]", "1")])
def test_any_wildcard_makes_a_name_a_glob_as_it_does_of_files(datasets: Datasets, name: str, objects: str) -> None:
    exports = f"gs://{datasets.settings.archive_bucket}/exports/"
    sources = find([f"{exports}{name}", f"{exports}{name}"], lambda: datasets.storage)
    assert [source.name for source in sources] == [f"{exports}orders-{number}" for number in objects]


def test_an_object_is_read_by_its_name_and_size(datasets: Datasets) -> None:
    full = f"gs://{datasets.settings.archive_bucket}/raw/f"
    [listed] = find([full], lambda: datasets.storage)
    assert list(source(full, listed.size, lambda: datasets.storage).lines()) == list(listed.lines())


@pytest.mark.parametrize("name", ["missing/", "missing*", "raw/f/x"])
def test_missing_source_is_named(datasets: Datasets, name: str) -> None:
    full = f"gs://{datasets.settings.archive_bucket}/{name}"
    with pytest.raises(Unreadable, match="no file, folder or object has this name"):
        check(full, lambda: datasets.storage)
