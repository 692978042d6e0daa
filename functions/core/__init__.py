"""The pure core: it makes a message a row or a dead letter, without I/O and without a clock."""
