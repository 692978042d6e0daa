"""`python -m dataflow.main`: run the pipeline, on Dataflow or on any other runner of Beam."""

import logging
import sys

from dataflow.pipeline import build
from functions.settings import InvalidSettings


def main() -> None:
    """Run the pipeline until it ends; a stream does not."""
    logging.basicConfig(level=logging.INFO)
    try:
        pipeline = build(sys.argv[1:])
    except (InvalidSettings, FileNotFoundError) as error:
        sys.exit(f"Nothing was done: {error}")
    pipeline.run().wait_until_finish()


if __name__ == "__main__":
    main()
