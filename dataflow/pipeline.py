"""The pipeline: from a subscription or files to archive and tables."""

import os
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions, StandardOptions

from dataflow.batches import Batch
from dataflow.messages import ReadMessages, paths, read_file
from dataflow.options import SluiceOptions, check, variables
from dataflow.write import WriteBatches
from functions.message import Message
from functions.settings import Settings

DEFAULT_LINGER = 1.0
"""Seconds, of a stream: its bundles may have a few messages only."""


def build(arguments: Sequence[str]) -> beam.Pipeline:
    """Return the pipeline that some options ask for.

    Args:
        arguments: Options of Beam, and those of `SluiceOptions`.

    Raises:
        InvalidSettings: An option or a setting is missing or wrong.
        FileNotFoundError: A pattern of `--input_files` matches no file.
    """
    options = PipelineOptions(list(arguments))
    # Workers import this package; to send them the main module, too, would pickle what cannot be pickled.
    options.view_as(SetupOptions).save_main_session = False
    own = options.view_as(SluiceOptions)
    check(own)
    given = variables(options, os.environ)
    settings = Settings.from_environment(given)
    linger = own.linger
    if own.input_subscription:
        options.view_as(StandardOptions).streaming = True
        linger = DEFAULT_LINGER if linger is None else linger
    pipeline = beam.Pipeline(options=options)
    if own.input_subscription:
        messages = pipeline | "Read" >> ReadMessages(own.input_subscription, own.id_label or None)
    else:
        messages = (
            pipeline
            | "Files" >> beam.Create(paths(own.input_files))
            | "Distribute" >> beam.Reshuffle()  # files, of which there are few
            | "Read" >> beam.FlatMap(read_file).with_output_types(Message)
        )
    _ = (
        messages
        | "Batches" >> Batch(settings.batch_rows, settings.batch_bytes, linger, own.shards)
        | "Write" >> beam.ParDo(WriteBatches(given, own.ip_hash_key_secret))
    )
    return pipeline
