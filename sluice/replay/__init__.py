"""Replay: events that are no rows yet come back, all of them by the backfill; here are their sources and the ledger."""
