"""The `sluice` command and the local stack, which are never deployed."""
