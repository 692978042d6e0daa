"""The vendored files of the console are those that `vendored.json` lists: checksum, version and license."""

import hashlib
import json
from typing import Any

import pytest

from sluice.console.page import FOLDER

VENDOR = FOLDER / "static" / "vendor"
LISTED: list[dict[str, str]] = json.loads((VENDOR / "vendored.json").read_text())
TEXTS = {
    "0BSD": "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee",
    "MIT": "Permission is hereby granted, free of charge, to any person obtaining a copy",
}


def test_every_vendored_file_is_listed() -> None:
    files = {file.name for file in VENDOR.iterdir()}
    licenses = {f"{_short_name(entry)}.LICENSE.txt" for entry in LISTED}
    assert files == {entry["file"] for entry in LISTED} | licenses | {"vendored.json"}


@pytest.mark.parametrize("entry", LISTED, ids=lambda entry: entry["file"])
def test_vendored_file_is_that_of_the_list(entry: dict[str, Any]) -> None:
    content = (VENDOR / entry["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    # uPlot's style sheet names no version; its script does, and both are of the same package.
    texts = [(VENDOR / other["file"]).read_text() for other in LISTED if other["package"] == entry["package"]]
    assert any(entry["version"] in text for text in texts)
    license_text = " ".join((VENDOR / f"{_short_name(entry)}.LICENSE.txt").read_text().split())
    assert TEXTS[entry["license"]] in license_text


def _short_name(entry: dict[str, str]) -> str:
    return entry["file"].split(".")[0]
