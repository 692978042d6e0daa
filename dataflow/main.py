"""`python -m dataflow.main`: run the pipeline, on Dataflow or on any other runner of Beam."""

import logging
import os
import re
import sys
from typing import NoReturn

from dataflow.options import help_text
from dataflow.pipeline import build
from functions.files.sources import Unreadable
from functions.ingest.http_client import ApiError
from functions.settings import InvalidSettings

FAILED, WRONG, INTERRUPTED = 1, 2, 130
"""Exit codes, as those of `sluice` (docs/exit-codes.md)."""

_FRAME = '\n  File "'
"""Beginning of each frame of a traceback."""

logger = logging.getLogger("dataflow.main")


def main() -> None:
    """Run the pipeline until it ends. That of a subscription does not end by itself."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(help_text())
        return
    logging.basicConfig(level=logging.INFO)
    try:
        pipeline = build(arguments)
    except InvalidSettings as error:
        _end(WRONG, f"Nothing was done: {error}")
    except Unreadable as error:
        _end(FAILED, f"Failed: {error}")
    try:
        pipeline.run().wait_until_finish()
    except KeyboardInterrupt:
        logging.shutdown()
        os._exit(INTERRUPTED)  # A local runner would wait until the bundles of its threads end.
    except Exception as error:
        logger.exception("The pipeline failed.")
        _end(FAILED, f"Failed: {reason(error)}")


def reason(error: Exception) -> str:
    """Return why a pipeline failed: the message of an API, or else Beam's in one line, without a traceback."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, ApiError) and cause.unsafe_message:
            return f"{cause}: {cause.unsafe_message}"
        cause = cause.__cause__ or cause.__context__
    text = str(error).strip() or type(error).__name__
    _, frame, rest = text.rpartition(_FRAME)
    if frame:  # The lines of the innermost frame are indented; its error follows, with the module of its class.
        text = re.sub(r"\A.*\n(?:[ ].*\n)*(?:[\w.]+\.(?=\w+: ))?", "", rest)
    return " ".join(re.sub(r" \[while running '[^']*'\]", "", text).split())


def _end(code: int, text: str) -> NoReturn:
    sys.stderr.write(f"{text}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
