"""Replay: sources of events that are not rows yet, for the backfill, and the ledger of replays."""
