"""The size of a run of `drain`, and of its chunks."""

MAX_SECONDS = 180
"""Seconds after which a run pulls no more; the next one continues. The function has 300."""

CHUNK_MESSAGES = 20_000
CHUNK_BYTES = 8 * 2**20
"""Size of the messages of a chunk at which it is full. A chunk becomes an archive object and a load file for each
table. Two chunks are in memory: one is pulled while the other is written."""
