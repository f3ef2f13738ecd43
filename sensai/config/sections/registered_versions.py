"""The parameters of what is done with registered versions."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sensai.config.bounds import (
    FilePath,
    GivenText,
    Host,
    ModelName,
    OptionalParts,
    OptionalProcesses,
    OptionalVersion,
    Port,
    Processes,
    RayAddress,
    Share,
    Threads,
    WorkDir,
)
from sensai.config.entry_point import EntryPoint
from sensai.config.parameter_types import Resources
from sensai.config.usage import Usage


class Promote(EntryPoint):
    """Which version of the ensemble serves."""

    owner = "promote"

    model_name: ModelName = Field("sensai-ensemble", description="registered model whose champion is chosen")
    version: OptionalVersion = Field(
        None, description="that is to be the champion (default: the newest, the candidate)"
    )
    max_accuracy_drop: Share = Field(
        0.005, description="what the ensemble may lose against the base model on validation data, as a fraction"
    )
    cost: Literal["flops", "latency"] = Field(
        "flops",
        description="what must be no more than the champion's: FLOPs of the largest member, or the ensemble's time an image",
    )
    rollback: bool = Field(False, description="make the version that the champion replaced the champion again")
    work_dir: Annotated[WorkDir, Usage(operational=True)] = Field(
        ".sensai", description="folder of working files: locks"
    )

    @model_validator(mode="after")
    def _back_is_no_choice(self) -> Self:
        if self.rollback and self.version is not None:
            raise ValueError(f"version={self.version}: rollback=true goes back to the version before the champion")
        return self


class Predict(EntryPoint):
    """What images show."""

    owner = "predict"

    model_uri: Annotated[GivenText, Usage(by_content=True)] = Field(
        "models:/sensai-ensemble@champion",
        description="registered ensemble: models:/<name>@<alias>, models:/<name>/<version>, models:/<model id>, "
        "runs:/<run id>/ensemble, or a folder with its files",
    )
    images: Annotated[FilePath, Usage(by_content=True)] = Field(
        "-", description="an image file, a folder of them, or - for frames on standard input"
    )
    frames: Literal["json", "raw"] = Field(
        "json",
        description='what comes on standard input: a JSON object a line, with "path" or "pixels" and "id"; or raw frames of '
        "the network's height, width and channels, a byte a value",
    )


class Serve(EntryPoint):
    """Where images are sent to, and what answers them."""

    owner = "serve"

    model_uri: Annotated[GivenText, Usage(by_content=True)] = Field(
        "models:/sensai-ensemble@champion",
        description="registered ensemble, named as for predict; an alias is read once",
    )
    host: Host = Field("127.0.0.1", description="address that is listened on; 0.0.0.0 for all, without any protection")
    port: Port = Field(8000, description="port of that address")
    ray_address: RayAddress = Field(
        "",
        description="host:port of a running Ray cluster, or auto; its head listens (default: a Ray of this machine, which "
        "ends with the server)",
    )
    shards: OptionalParts = Field(
        None,
        description="parts that the members are dealt to (default: one a CPU of the cluster, at most one a member)",
    )
    replicas: Processes = Field(1, description="of each part")
    replicas_per_node: OptionalProcesses = Field(
        None, description="most replicas of a part on one machine (default: any number)"
    )
    threads: Threads = Field(1, description="CPUs of each replica, whose members run one after another")
    resources: Resources = Field(
        {}, description="name=amount,...: custom resources of the cluster's nodes that each replica takes"
    )
