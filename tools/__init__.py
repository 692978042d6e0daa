"""The repository's own checks and generators."""
