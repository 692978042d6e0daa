"""The cost of Sluice, by item, and of its alternatives: `sluice cost` and docs/alternatives.md, docs/cost.md."""
