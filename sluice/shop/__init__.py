"""The simulated shop, which generates the events of `sluice generate` and `sluice demo`."""
