"""The archive of the raw events: names of objects, envelopes, writing, reading, compaction."""
