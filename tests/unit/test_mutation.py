"""The mutation score counts what no test notices."""

import pytest

from tools import mutation


def test_the_score_is_the_share_of_the_killed_mutants() -> None:
    verdicts = mutation.counts({"a": 1, "b": 0, "c": 33, "d": 36})
    assert dict(verdicts) == {"killed": 2, "survived": 1, "untested": 1}
    assert mutation.score(verdicts) == 0.5
    assert mutation.table({"functions/core/rows.py": verdicts}).rows == [
        ["functions/core/rows.py", "2", "1", "1", "50%"],
        ["all", "2", "1", "1", "50%"],
    ]


@pytest.mark.parametrize("code", [None, -11, 2])
def test_a_mutant_without_a_verdict_is_an_error(code: int | None) -> None:
    with pytest.raises(ValueError, match="1 mutants have no verdict, for example b"):
        mutation.counts({"a": 1, "b": code})
