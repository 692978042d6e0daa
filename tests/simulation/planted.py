"""Bugs that are planted into the functions, to prove that the simulation finds such bugs."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType
from typing import Any, NamedTuple


class Planted(NamedTuple):
    """A bug.

    Attributes:
        text: The bug in words.
        kind: The kind of the scenarios that find it.
        module: The module that has it.
        changes: Texts of the module, and what takes their places.
    """

    text: str
    kind: str
    module: str
    changes: Sequence[tuple[str, str]]


_INSERT = "        result = await flush.insert(table, events)\n"
_ARCHIVE = "    await flush.archive(events)  # Nothing is inserted that is not archived.\n"
_ARCHIVED = "        finally:\n            self._slot.archived()\n"
_WRITE = "                self.writer.write([lease.message for lease in leases], self.system.now())\n"
_ACKNOWLEDGE = "                subscription.acknowledge(leases)\n"
_UPLOAD = "        report.archive_bytes = self._archive.write(name, outcomes, self._timeout)\n"
_INSERT_BATCH = "        insert_by_table(self._warehouse, outcomes, now, self._timeout, report)\n"
_REPLACE = "            if ended != ledger:\n                self._ledger.replace(ended, generation)\n"
_START = """            for outcome in threads.map(self._start, [*to_start, *new]):
                report.started_jobs += outcome is _Start.STARTED
                report.unstarted_jobs += outcome is _Start.FAILED
                report.failed_jobs += outcome is _Start.FAILED
"""
_FINISH = "            self._finish(*written, finished)\n"
_ADDED = "            finished.add(written[0].name)\n"
_DELETE_ALL = "            self._delete_all(written[1], threads)\n"
_RECORDS = "        records = self._records.of_objects(days, first, last)\n"

PLANTED = (
    Planted(
        "acknowledges before it inserts",
        "push",
        "functions.ingest.stages",
        [
            (
                _INSERT,
                "        flush.acknowledge(events, __import__('functions.ingest.warehouse').ingest.warehouse.InsertResult({}, {}))\n"
                + _INSERT,
            )
        ],
    ),
    Planted(
        "inserts before it archives",
        "push",
        "functions.ingest.stages",
        [(_ARCHIVE, ""), ("    if dead_letters :=", _ARCHIVE + "    if dead_letters :=")],
    ),
    Planted(
        "goes on without the archive where that fails",
        "push",
        "functions.ingest.flush",
        [(_ARCHIVED, "        except Exception:\n            pass\n        self._slot.archived()\n")],
    ),
    Planted(
        "never ends the archiving of a flush whose archive fails",
        "push",
        "functions.ingest.flush",
        [(_ARCHIVED, "        finally:\n            pass\n        self._slot.archived()\n")],
    ),
    Planted(
        "acknowledges rows that BigQuery did not take for now",
        "push",
        "functions.ingest.flush",
        [("if reason := result.retryable.get(index):", "if reason := '':")],
    ),
    Planted(
        "acknowledges rejected rows without a dead letter",
        "push",
        "functions.ingest.flush",
        [
            (
                "                    dead_letters.append(ProcessedEvent(dead_letter, event.size, event.ack))",
                "                    resolve(event.ack)",
            )
        ],
    ),
    Planted(
        "releases events twice where an insert fails",
        "push",
        "functions.ingest.flush",
        [
            (
                'f"{table}: ")\n        self._resolved(len(events), _size(events))\n',
                'f"{table}: ")\n        self._resolved(len(events), _size(events))\n        self._admission.release(len(events), _size(events))\n',
            )
        ],
    ),
    Planted(
        "counts expired events as in flight for ever",
        "push",
        "functions.ingest.group_commit",
        [
            (
                "        for event in batch.expired:\n            self.admission.release(1, event.size)\n",
                "        for event in batch.expired:\n",
            )
        ],
    ),
    Planted(
        "does not answer the events that exceed a lowered limit",
        "push",
        "functions.ingest.group_commit",
        [
            (
                "            resolve(event.ack, Failure(Overloaded, str(self.admission.reject())))",
                "            self.admission.reject()",
            )
        ],
    ),
    Planted(
        "drops the event that does not fit into a batch",
        "push",
        "functions.ingest.event_queue",
        [
            (
                "            if batch.events and size + event.size > self._max_bytes:\n                break\n            self._events.popleft()\n            self._bytes -= event.size\n",
                "            self._events.popleft()\n            self._bytes -= event.size\n            if batch.events and size + event.size > self._max_bytes:\n                break\n",
            )
        ],
    ),
    Planted(
        "leaves out a row where it halves a request that is too large",
        "push",
        "functions.ingest.warehouse",
        [("records[half:], deadline)", "records[half + 1 :], deadline)")],
    ),
    Planted(
        "takes the errors of a request's second half for those of the first",
        "push",
        "functions.ingest.warehouse",
        [("half + position: problems", "position: problems")],
    ),
    Planted(
        "forgets the rows that failed for a while",
        "push",
        "functions.ingest.warehouse",
        [('                    again[index] = f"{table}: {problems[0].reason}"', "                    pass")],
    ),
    Planted(
        "takes positions of a repeated request for those of the first",
        "push",
        "functions.ingest.warehouse",
        [("                index = waiting[position]\n", "                index = position\n")],
    ),
    Planted(
        "takes a call for successful when its time is over",
        "push",
        "functions.ingest.http_client",
        [
            (
                "                if pause is None:\n                    raise\n",
                '                if pause is None:\n                    return b\'{"name": ""}\'\n',
            )
        ],
    ),
    Planted(
        "waits for a table that lacks a column by dead letters",
        "push",
        "functions.ingest.warehouse",
        [('return problem.message.startswith("no such field")', "return False")],
    ),
    Planted(
        "acknowledges a chunk before it is written",
        "batch",
        "functions.drain.drain",
        [(_WRITE, ""), (_ACKNOWLEDGE, _ACKNOWLEDGE + _WRITE)],
    ),
    Planted(
        "acknowledges all that is leased",
        "batch",
        "functions.drain.subscription",
        [
            (
                "itertools.batched((lease.ack_id for lease in leases), _MAX_IDS",
                "itertools.batched(list(self._held), _MAX_IDS",
            )
        ],
    ),
    Planted(
        "writes load files before the archive",
        "batch",
        "functions.ingest.batch_writer",
        [(_UPLOAD, ""), (_INSERT_BATCH, _INSERT_BATCH + _UPLOAD)],
    ),
    Planted(
        "starts jobs before they are in the ledger",
        "batch",
        "functions.drain.loads",
        [(_REPLACE, ""), (_START, _START + _REPLACE)],
    ),
    Planted(
        "replaces the ledger without a condition",
        "batch",
        "functions.drain.ledger",
        [("                if_generation_match=generation,\n                timeout", "                timeout")],
    ),
    Planted(
        "lists the load files before it reads the ledger",
        "batch",
        "functions.drain.loads",
        [
            (
                "        ledger, generation = self._ledger.read()\n        files, now = {file.name: file for file in self._files()}, self._now()\n",
                "        files, now = {file.name: file for file in self._files()}, self._now()\n        ledger, generation = self._ledger.read()\n",
            ),
        ],
    ),
    Planted(
        "takes a failed job for a successful one",
        "batch",
        "functions.drain.loads",
        [("        if job.error_result is None:\n", "        if True:\n")],
    ),
    Planted(
        "takes a running job for a successful one",
        "batch",
        "functions.drain.loads",
        [('if job is None or job.state != "DONE" or', "if job is None or")],
    ),
    Planted(
        "gives a repeated job the id of the failed one",
        "batch",
        "functions.drain.loads",
        [('"\\n".join((str(generation), *names))', '"\\n".join(names)')],
    ),
    Planted(
        "deletes a file whose bad row is not inserted",
        "batch",
        "functions.drain.loads",
        [("            self._insert_rows(load.files[0])\n", "            pass\n")],
    ),
    Planted(
        "deletes originals before the compacted object counts",
        "archive",
        "functions.archive.compaction",
        [(_FINISH + _ADDED + _DELETE_ALL, _DELETE_ALL + _FINISH + _ADDED)],
    ),
    Planted(
        "does not look at the originals again",
        "archive",
        "functions.archive.compaction",
        [("        if not is_alone or changed:", "        if not is_alone:")],
    ),
    Planted(
        "does not look for other compactions",
        "archive",
        "functions.archive.compaction",
        [("        if not is_alone or ", "        if ")],
    ),
    Planted(
        "deletes compacted objects that others have finished",
        "archive",
        "functions.archive.compaction",
        [
            (
                '    unchanged = {"if_generation_match": blob.generation, "if_metageneration_match": blob.metageneration}\n',
                "    unchanged = {}\n",
            )
        ],
    ),
    Planted(
        "deletes originals of the range that it did not copy",
        "archive",
        "functions.archive.compaction",
        [
            (
                "        copied = {name for name, _ in compacted.contents()}\n",
                "        copied = {original.blob.name for original in originals if compacted.names.has(original.blob.name)}\n",
            )
        ],
    ),
    Planted(
        "counts a compacted line beside its original",
        "archive",
        "functions.archive.reader",
        [("        if not there:\n            return chosen\n", "        return chosen\n")],
    ),
    Planted(
        "acknowledges undeliverable messages before they are loaded",
        "push",
        "sluice.replay.undeliverable",
        [("            yield from (", "            self.acknowledge(ids)\n            yield from (")],
    ),
    Planted(
        "takes all events of an object for recorded if some are",
        "push",
        "functions.reconcile.reconciler",
        [("        if _digest(settled) != digest:\n            dated", "        if digest == 0:\n            dated")],
    ),
    Planted(
        "lists the archive before it reads the records",
        "push",
        "functions.reconcile.reconciler",
        [
            (_RECORDS, "        listed = list(self._objects(start, end))\n" + _RECORDS),
            ("self._merge(self._objects(start, end), records", "self._merge(iter(listed), records"),
        ],
    ),
    Planted(
        "gives all rows of a table the columns of the first",
        "push",
        "functions.ingest.flush",
        [
            (
                "InsertRow(outcome.insert_id, outcome.encoded(uri)) for",
                "InsertRow(outcome.insert_id, (outcome if table == 'dead_letters' else msgspec.structs.replace(outcome, content=outcomes[0].content)).encoded(uri)) for",
            )
        ],
    ),
    Planted(
        "forgets the events of a look-up that is full",
        "push",
        "functions.reconcile.reconciler",
        [
            (
                "                if batch.bytes >= _BYTES_OF_A_LOOKUP:\n                    self._look_up(batch)\n",
                "                if batch.bytes >= _BYTES_OF_A_LOOKUP:\n",
            )
        ],
    ),
    Planted(
        "takes an event for missing that another delivery has recorded",
        "push",
        "functions.reconcile.reconciler",
        [("        if same or not records:\n            return same\n", "        return same\n")],
    ),
    Planted(
        "loads events that are in their table",
        "batch",
        "sluice.backfill.run",
        [("            present = self._jobs.present(load)\n", "            present = set()\n")],
    ),
    Planted(
        "takes a load for complete of which BigQuery rejects rows",
        "batch",
        "sluice.backfill.load_jobs",
        [("return is_ours and job.output_rows == len(records)", "return is_ours")],
    ),
    Planted(
        "gives a rejected row a dead letter beside that of its stream",
        "batch",
        "sluice.backfill.events",
        [("letter.stage if letter.stage is Stage.WAREHOUSE else letter.fingerprint", "letter.fingerprint")],
    ),
    Planted(
        "erases from no compacted object of an original that it has changed",
        "archive",
        "sluice.erase.archive",
        [
            (
                "            self._finish(hours)\n        self._erase_from_compacted()\n",
                "            self._finish(hours)\n",
            )
        ],
    ),
    Planted(
        "lists no compacted objects where it cannot list all originals at once",
        "archive",
        "functions.archive.compaction",
        [
            (
                "other for other in self._reader.stored_of_range(names) if isinstance(other, CompactedObject)",
                "other for other in ()",
            )
        ],
    ),
    Planted(
        "skips a block that may end with an original of the time at which the next begins",
        "archive",
        "functions.archive.compacted_file",
        [("if first < time), default=0)", "if first <= time), default=0)")],
    ),
    Planted(
        "erases from a compacted object, which does not count any more then",
        "archive",
        "functions.archive.rewriter",
        [("tuple(writer.blocks), compacted.is_finished)", "tuple(writer.blocks))")],
    ),
    Planted(
        "erases from an object that another erasure has changed since it was read",
        "archive",
        "functions.archive.rewriter",
        [
            (
                "        content_type=blob.content_type,\n        if_generation_match=blob.generation,\n",
                "        content_type=blob.content_type,\n",
            )
        ],
    ),
    Planted(
        "erases from no compacted object of an original that is gone",
        "archive",
        "sluice.erase.archive",
        [("                self._touched.add(archived.uri)\n", "                pass\n")],
    ),
    Planted(
        "never raises the limit on events in flight again",
        "recovery",
        "functions.ingest.admission",
        [
            (
                "            self.limit = min(self.limit + flush.durable * growth, float(self._max_events))\n",
                "            pass\n",
            )
        ],
    ),
    Planted(
        "starts flushes however long the running ones take",
        "recovery",
        "functions.ingest.scheduler",
        [
            ("max(INTERVAL, self._duration * SHARE)", "INTERVAL"),
            ("max(self._linger, self._duration)", "self._linger"),
            ("max(2.0, self._max_flushes / 2)", "float(MAX_FLUSHES)"),
            ("        if is_overloaded:\n            self._abandoned.append(_Abandoned(now, now + seconds))\n", ""),
        ],
    ),
)


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with changes."""

    def __init__(self, name: str, path: str, planted: Planted) -> None:
        super().__init__(name, path)
        self._planted = planted

    def get_code(self, fullname: str) -> CodeType:
        text = self.get_data(self.path).decode()
        for old, new in self._planted.changes:
            if text.count(old) != 1:
                raise ValueError(f"{self._planted.text}: {fullname} has {text.count(old)} times: {old}")
            text = text.replace(old, new)
        return compile(text, self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the module with the bug."""

    def __init__(self, planted: Planted) -> None:
        self._planted = planted

    def find_spec(
        self, name: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._planted.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.origin is not None
        return importlib.util.spec_from_file_location(
            name, spec.origin, loader=_Loader(name, spec.origin, self._planted)
        )


def plant(planted: Planted) -> None:
    """Plant a bug into a module that is imported later."""
    assert planted.module not in sys.modules, "the module is imported already"
    sys.meta_path.insert(0, _Finder(planted))
