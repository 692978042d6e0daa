"""Names of the local stack's project, topics, subscriptions and variables."""

PROJECT = "sluice-local"


def topic_name(name: str = "events") -> str:
    """Return the full name of a stack's topic."""
    return f"projects/{PROJECT}/topics/{name}"


def undeliverable_name(name: str = "events") -> str:
    """Return the full name of the subscription that keeps what a stack could not deliver."""
    return f"projects/{PROJECT}/subscriptions/{name}-undeliverable"


TOPIC = topic_name()
"""Topic of the stack of `sluice up`."""

UNDELIVERABLE = undeliverable_name()
"""Dead-letter subscription of the stack of `sluice up`."""

EMULATORS = (
    "BIGQUERY_EMULATOR_HOST",
    "BIGQUERY_STORAGE_EMULATOR_HOST",
    "STORAGE_EMULATOR_HOST",
    "PUBSUB_EMULATOR_HOST",
)
"""Variables by which the Google Cloud clients find emulators."""
