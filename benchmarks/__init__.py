"""Sluice against the plain way and an empty function, in one run: `make bench`, explained in `docs/performance.md`."""
