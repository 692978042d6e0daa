"""An erasure knows what it has removed, also where the answer of Cloud Storage was lost."""

import pytest

from functions.archive.reader import ArchiveReader
from functions.archive.writer import Archive
from sluice.erase.archive import ArchiveErasure, ObjectChange
from sluice.erase.dead_letters import DeadLetters
from sluice.erase.deletions import Deletions
from sluice.erase.ownership import Persons
from sluice.erase.report import Erased
from tests.simulation import campaign
from tests.simulation.archive import CHOICES
from tests.simulation.network import Fate
from tests.simulation.world import TABLES, World
from tests.support.samples import process


@pytest.mark.parametrize("others", [0, 1])
def test_lines_are_erased_although_the_answer_was_lost(others: int) -> None:
    """The client sends the request again, and Cloud Storage answers that the object is another one, or gone.

    Without the original's name, the erasure would leave the person in a compacted object that has a copy.
    """
    world = World(0, {name: options[0] for name, options in CHOICES.items()})
    machine, storage, erased = world.machine("eraser"), world.storage_client(), Erased()
    persons = Persons({}, {"e0"})
    letters = DeadLetters(persons, storage, "events.dead_letters", Deletions(world.bigquery_client(), erased), erased)
    erasure = ArchiveErasure(persons, storage, "archive", letters, erased)
    changes: list[ObjectChange] = []

    def erase() -> None:
        archive = Archive(world.storage_api(machine), "archive", TABLES)
        outcomes = [process(world.new_message(), machine.now()) for _ in range(1 + others)]
        archive.write(archive.name(machine.now()), outcomes, 30.0)
        [archived] = ArchiveReader(storage, "archive").objects()
        fates = iter([Fate.SERVED, Fate.RESET_AFTER])
        world.network.fate = lambda: next(fates, Fate.SERVED)  # type: ignore[method-assign]
        changes.append(erasure.rewrite(archived))

    with campaign.simulated():
        machine.start(erase)
        world.time.run(lambda: bool(changes or world.history.violations), 60.0)
        world.close()
    assert world.history.violations == []
    [change] = changes
    assert ([event.event_id for event in change.removed], change.originals) == (["e0"], {change.uri: 1})
    generations = [stored.generation for stored in world.storage.objects.values()]
    assert [change.generation] == (generations or [0])
    assert len(generations) == others
