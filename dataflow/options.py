"""The pipeline's options: its sources, its batches, and the settings of the functions."""

import argparse
import re
from collections.abc import Mapping

import msgspec
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from functions.settings import InvalidSettings, Settings

OF_A_REQUEST = frozenset({"linger_ms", "max_in_flight", "max_in_flight_bytes", "ip_hash_key", "google_cloud_project"})
"""Settings that are no options: Dataflow admits what it can process, a secret is fetched and not shown, and the project
is Beam's own option."""


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
        parser.add_argument("--linger", type=float, help="seconds that an event may wait for others, across bundles")
        parser.add_argument("--shards", type=int, default=4, help="batches that fill at once, with --linger")
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


def check_source(options: SluiceOptions) -> None:
    """Check that there is one source, and that its name is one.

    Raises:
        InvalidSettings: There is none or are two, or the subscription's name is none.
    """
    if bool(options.input_subscription) == bool(options.input_files):
        raise InvalidSettings("options: give one of --input_subscription and --input_files")
    if options.input_subscription and not _SUBSCRIPTION.fullmatch(options.input_subscription):
        name = options.input_subscription
        raise InvalidSettings(f"options: --input_subscription is {name!r}, not projects/PROJECT/subscriptions/NAME")
