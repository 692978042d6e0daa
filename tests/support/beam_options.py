"""`python -m tests.support.beam_options`: options of the pipeline that are no settings, as rows of docs/dataflow.md."""

import argparse
import sys

import msgspec

from dataflow.options import SluiceOptions
from functions.settings import Settings


def main() -> None:
    """Write a line of Markdown for each option."""
    settings = {field.name for field in msgspec.structs.fields(Settings)}
    parser = argparse.ArgumentParser(add_help=False)
    SluiceOptions._add_argparse_args(parser)
    for action in parser._actions:
        if action.dest not in settings:
            sys.stdout.write(f"| `{action.option_strings[0]}` | {action.help} |\n")


if __name__ == "__main__":
    main()
