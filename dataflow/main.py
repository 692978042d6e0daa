"""`python -m dataflow.main`: run the pipeline, on Dataflow or on any other runner of Beam.

Its exit codes are those of `sluice` (docs/operate.md).
"""

import logging
import sys
from typing import NoReturn

from apache_beam.io.filesystem import BeamIOError

from dataflow.pipeline import build

_FAILED = 1
_WRONG = 2


def main() -> None:
    """Run the pipeline until it ends; a stream does not.

    Raises:
        SystemExit: An option or a setting is wrong, or the pipeline failed; standard error has a sentence about it.
    """
    logging.basicConfig(level=logging.INFO)
    try:
        pipeline = build(sys.argv[1:])
    except BeamIOError as error:
        _end("Failed:", error, _FAILED)
    except (ValueError, FileNotFoundError) as error:  # Beam's own options raise ValueError.
        _end("Nothing was done:", error, _WRONG)
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:  # of any worker
        _end("Failed:", error, _FAILED)


def _end(what: str, error: Exception, code: int) -> NoReturn:
    """End with the last line of an error: of a worker's error, the lines above it are the traceback."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    sys.stderr.write(f"{what} {lines[-1]}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
