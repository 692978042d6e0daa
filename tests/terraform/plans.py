"""The plans of the environments as they were looked at: `python -m tests.terraform.plans` writes them again."""

import json
import pathlib
import re
import tempfile
from typing import Any

from tests.support.terraform import Planned, planned, terraform

FOLDER = pathlib.Path(__file__).parent / "plans"

ENVIRONMENTS = ("dev", "prod")


_MADE_UP = re.compile(r"(?!\d+s?$)[a-z0-9]{8}")
"""Values that Terraform's tests make up for those that only the cloud would know."""


def readable(plan: Planned) -> str:
    """A plan without what is not set, and without the hash of what is deployed."""
    resources = {address: _set(attributes) for address, attributes in sorted(plan.items())}
    text = json.dumps(resources, indent=1, sort_keys=True, ensure_ascii=False)
    return re.sub(r"[0-9a-f]{64}", "HASH", text) + "\n"


def _set(value: Any) -> Any:
    match value:
        case dict():
            return {name: kept for name, item in value.items() if (kept := _set(item)) not in (None, [], {}, "")}
        case list():
            return [_set(item) for item in value]
        case str() if value.startswith(("{", "[{")):
            return _set(json.loads(value))
        case str() if _MADE_UP.fullmatch(value):
            return None
        case _:
            return value


def main() -> None:
    """Write the plans."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as copy:
        run = terraform(pathlib.Path(copy))
        for name in ENVIRONMENTS:
            (FOLDER / f"{name}.json").write_text(readable(planned(run, name)))


if __name__ == "__main__":
    main()
