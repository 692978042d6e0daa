"""Commands of the command line, one module for each.

A module imports what only its command needs when the command runs: `sluice --help` has to be fast.
"""
