"""What runs beside the functions: the `sluice` command and the local stack. Never deployed."""
