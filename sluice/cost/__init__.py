"""What Sluice costs, by item, and what the ways beside it cost: `sluice cost` and docs/alternatives.md."""
