"""The pipeline: from a subscription or files to archive and tables."""

import os
from collections.abc import Mapping, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import SetupOptions, StandardOptions

from dataflow.batches import Batch
from dataflow.files import ReadFiles, storage
from dataflow.messages import ReadMessages
from dataflow.options import (
    DEFAULT_LINGER,
    DEFAULT_SHARDS,
    WRITERS,
    SluiceOptions,
    check_source,
    id_fields,
    input_files,
    is_dry_run,
    parse,
    variables,
)
from dataflow.write import WriteBatches
from functions.files import sources
from functions.settings import InvalidSettings, Settings
from functions.system import utc_now


def build(arguments: Sequence[str]) -> beam.Pipeline:
    """Return the pipeline for some options.

    Args:
        arguments: Options of Beam, and those of `SluiceOptions`.

    Raises:
        InvalidSettings: An option or a setting is missing or wrong.
        Unreadable: A name of `--input_files` has no file or object.
    """
    options = parse(arguments)
    # Workers import this package. The main module cannot be pickled.
    options.view_as(SetupOptions).save_main_session = False
    own = options.view_as(SluiceOptions)
    check_source(options)
    given = variables(options, os.environ)
    settings = Settings.from_environment(given)
    linger = own.linger
    if own.input_subscription:
        options.view_as(StandardOptions).streaming = True
        linger = DEFAULT_LINGER if linger is None else linger
    try:
        source, pipeline = _source(own, given, settings), beam.Pipeline(options=options)
    except InvalidSettings:
        raise
    except ValueError as error:  # The runner is unknown or lacks an option, or Pub/Sub has no such name.
        raise InvalidSettings(f"options: {' '.join(str(error).split())}") from error
    write = WriteBatches(given, own.ip_hash_key_secret, own.writer or WRITERS[0], dry_run=is_dry_run(options))
    _ = (
        pipeline
        | "Read" >> source
        | "Batches" >> Batch(settings.batch_rows, settings.batch_bytes, linger, own.shards or DEFAULT_SHARDS)
        | "Write" >> beam.ParDo(write)
    )
    return pipeline


def _source(options: SluiceOptions, given: Mapping[str, str], settings: Settings) -> beam.PTransform:
    if options.input_subscription:
        return ReadMessages(options.input_subscription, options.id_label or None)
    names, paths = input_files(options), id_fields(options)
    for name in names:
        sources.check(name, lambda: storage(settings))
    return ReadFiles(names, given, utc_now(), options.schema_version, paths)
