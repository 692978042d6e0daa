"""The HTTP app of `ingest`: admission, the group commit, and the writers of archive and tables."""
