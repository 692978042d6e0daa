"""From a message to a row or a dead letter, without I/O and without a clock."""
