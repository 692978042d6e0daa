"""The scheduled compaction of the archive."""
