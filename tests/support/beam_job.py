"""Builds the job that DataflowRunner would submit, sends it nowhere, and prints what is in it as JSON.

The test copies this file beside what is shipped, and runs it in .venv/beam with the pipeline's options as arguments.
"""

import json
import sys
from typing import Any

import apache_beam as beam
from apache_beam.internal import pickler
from apache_beam.internal.cloudpickle import cloudpickle
from apache_beam.options.pipeline_options import GoogleCloudOptions
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.runners.dataflow.internal import apiclient

from dataflow.pipeline import build

GROUP_BY_KEY = "beam:transform:group_by_key:v1"
PARDO = "beam:transform:pardo:v1"
PICKLED = "beam:coder:pickled_python:v1"


def submit(arguments: list[str]) -> tuple[Any, list[str]]:
    """Return the job, and the names of the files that are staged for its workers."""
    submitted: list[Any] = []
    staged: list[str] = []

    def stage(_: Any, folder: str, name: str, *_more: Any, **_options: Any) -> None:
        staged.append(name)

    def copy(_: Any, _source: str, name: str, *_more: Any) -> None:
        staged.append(name.rpartition("/")[2])

    def take(_: Any, job: Any) -> Any:
        submitted.append(job)
        return apiclient.dataflow.Job(id="job")

    client = apiclient.DataflowApplicationClient
    GoogleCloudOptions.validate = lambda *_: []  # It asks Cloud Storage for the buckets.
    client.stage_file = client.stage_file_with_retry = stage
    client._gcs_file_copy = copy
    client.submit_job_description = take
    build(arguments).run()
    [job] = submitted
    return job, staged


def contents(pickled: bytes) -> str:
    """Return what a compressed pickle has, as text in which names and values can be found."""
    text: str = cloudpickle.dumps(pickler.loads(pickled)).decode("latin-1")
    return text


class Described:
    """A pipeline as its protocol buffer says it."""

    def __init__(self, pipeline: Any) -> None:
        self.components = pipeline.components

    def transforms(self) -> dict[str, str]:
        """Return the kinds of all primitive transforms by their names."""
        return {
            transform.unique_name: transform.spec.urn
            for transform in self.components.transforms.values()
            if transform.spec.urn and not transform.subtransforms
        }

    def shuffled(self) -> dict[str, list[str]]:
        """Return what goes over the network: by transform, the coders of its keys and values."""
        return {
            transform.unique_name: self.coders(self.components.pcollections[source].coder_id)
            for transform in self.components.transforms.values()
            if transform.spec.urn == GROUP_BY_KEY or self.is_stateful(transform)
            for source in transform.inputs.values()
        }

    def is_stateful(self, transform: Any) -> bool:
        return transform.spec.urn == PARDO and bool(api.ParDoPayload.FromString(transform.spec.payload).state_specs)

    def coders(self, name: str) -> list[str]:
        coder = self.components.coders[name]
        inner = [coder_id for component in coder.component_coder_ids for coder_id in self.coders(component)]
        if coder.spec.urn == PICKLED:
            return [type(beam.coders.Coder.from_runner_api(coder, None)).__name__, *inner]
        return inner or [coder.spec.urn.split(":")[2]]

    def functions(self) -> str:
        """Return the contents of all functions."""
        payloads = [
            api.ParDoPayload.FromString(transform.spec.payload).do_fn.payload
            for transform in self.components.transforms.values()
            if transform.spec.urn == PARDO
        ]
        return "".join(map(contents, payloads))

    def source(self) -> dict[str, Any] | None:
        """Return what Dataflow itself reads, if it reads a subscription."""
        for transform in self.components.transforms.values():
            if transform.spec.urn == "beam:transform:pubsub_read:v1":
                read = api.PubSubReadPayload.FromString(transform.spec.payload)
                return {name.name: value for name, value in read.ListFields()}
        return None


def main() -> None:
    """Print the job."""
    job, staged = submit(sys.argv[1:])
    serialized = job.proto_pipeline.SerializeToString()
    pipeline = api.Pipeline.FromString(serialized)
    described = Described(pipeline)
    beam.Pipeline.from_runner_api(pipeline, None, None)  # as a worker: all coders and functions are found
    described_job = apiclient.dataflow.Job.to_dict(job.proto)
    environment = described_job["environment"]
    json.dump(
        {
            "is_stream": job.proto.type_ == apiclient.dataflow.JobType.JOB_TYPE_STREAMING,
            "environment": environment,
            "size": len(serialized),
            "staged": staged,
            "images": sorted(
                api.DockerPayload.FromString(environment.payload).container_image
                for environment in pipeline.components.environments.values()
            ),
            "options": environment["sdk_pipeline_options"]["options"],
            "transforms": described.transforms(),
            "shuffled": described.shuffled(),
            "source": described.source(),
            "functions": described.functions(),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
