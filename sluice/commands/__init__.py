"""The commands of `sluice`, one module each: options, what is shown, exit codes."""
