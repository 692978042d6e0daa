"""The pipeline's options: its sources, its batches, and the settings of the functions."""

import argparse
import re
from collections.abc import Mapping

import msgspec
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions

from functions.settings import InvalidSettings, Settings

OF_A_REQUEST = frozenset({"linger_ms", "max_in_flight", "max_in_flight_bytes", "ip_hash_key", "google_cloud_project"})
"""Settings that are no options: Dataflow admits what it can process, a secret is fetched and not shown, and the project
is Beam's own option."""

MAX_LINGER = 60.0
"""Maximum of `--linger`, in seconds. Events that wait longer than their batches take to fill wait for nothing."""


class SluiceOptions(PipelineOptions):
    """Options beside Beam's own."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        source = parser.add_argument_group("source, one of")
        source.add_argument("--input_subscription", help="projects/PROJECT/subscriptions/NAME")
        source.add_argument(
            "--input_files", help="archive objects, or NDJSON in their form: paths or patterns, separated by commas"
        )
        parser.add_argument("--id_label", default="event_id", help="attribute by which Dataflow drops duplicates")
        parser.add_argument(
            "--linger",
            type=float,
            help="seconds that an event may wait for those of other bundles; default: 1 for a stream, 0 for files",
        )
        parser.add_argument(
            "--shards",
            type=int,
            default=8,
            help="batches that fill and are written at once, with --linger: one for each 1 000 events/s",
        )
        parser.add_argument(
            "--ip_hash_key_secret", help="projects/PROJECT/secrets/NAME/versions/VERSION, for --ip_policy=hash"
        )
        for field in msgspec.structs.fields(Settings):
            if field.name not in OF_A_REQUEST:
                parser.add_argument(f"--{field.name}", help=f"setting {field.encode_name} (docs/settings.md)")


def variables(options: PipelineOptions, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings as variables, without any secret: options win over the environment.

    Raises:
        InvalidSettings: A setting is missing or wrong; names the variable.
    """
    own = options.view_as(SluiceOptions)
    given = own.get_all_options(drop_default=True)
    project = options.view_as(GoogleCloudOptions).project
    names = {field.name: field.encode_name for field in msgspec.structs.fields(Settings)}
    found = {name: environment[name] for name in names.values() if name in environment}
    found |= {names[name]: str(value) for name, value in given.items() if name in names}
    if project:
        found["GOOGLE_CLOUD_PROJECT"] = project
    found.setdefault("CODE_VERSION", "dataflow")
    settings = Settings.from_environment(found)
    if settings.ip_policy == "hash" and not (own.ip_hash_key_secret or settings.ip_hash_key):
        raise InvalidSettings("options: --ip_policy=hash needs --ip_hash_key_secret")
    found.pop("IP_HASH_KEY", None)
    return found


_SUBSCRIPTION = re.compile(r"projects/[^/]+/subscriptions/[^/]+")


def check(options: SluiceOptions) -> None:
    """Check the options that are no settings.

    Raises:
        InvalidSettings: One of them is missing or wrong, or there is none of its name; names the option.
    """
    _check_names(options)
    _check_source(options)
    if options.linger is not None and not 0 <= options.linger <= MAX_LINGER:
        raise InvalidSettings(f"options: --linger is {options.linger:g}, not 0 to {MAX_LINGER:g} seconds")
    if options.shards < 1:
        raise InvalidSettings(f"options: --shards is {options.shards}, not 1 or more")


def _check_names(options: SluiceOptions) -> None:
    """Reject unknown options, which Beam ignores: a misspelled one would be no setting.

    The launcher of a Flex Template has compared its parameters with the template's, and may add options of its own.
    """
    if options.view_as(GoogleCloudOptions).template_location:
        return
    known = PipelineOptions([]).get_all_options()
    unknown = options.get_all_options(retain_unknown_options=True).keys() - known.keys()
    if unknown:
        raise InvalidSettings(f"options: there is no --{min(unknown)}")


def _check_source(options: SluiceOptions) -> None:
    if bool(options.input_subscription) == bool(options.input_files):
        raise InvalidSettings("options: give one of --input_subscription and --input_files")
    if options.input_subscription and not _SUBSCRIPTION.fullmatch(options.input_subscription):
        name = options.input_subscription
        raise InvalidSettings(f"options: --input_subscription is {name!r}, not projects/PROJECT/subscriptions/NAME")
    if options.input_subscription and options.view_as(StandardOptions).runner == "FnApiRunner":
        raise InvalidSettings("options: --runner=FnApiRunner cannot read --input_subscription; it would read nothing")
