"""The parameters of the entry points that use registered versions."""

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
    """The choice of the version that serves."""

    owner = "promote"

    model_name: ModelName = Field("sensai-ensemble", description="registered model whose champion is chosen")
    version: OptionalVersion = Field(None, description="version to promote (default: the candidate)")
    max_accuracy_drop: Share = Field(
        0.005, description="largest loss of validation accuracy against the base model, as a fraction"
    )
    cost: Literal["flops", "latency"] = Field(
        "latency",
        description="cost that is compared with those of base model and champion: the ensemble's latency, where a tenth counts "
        "as equal, or FLOPs of the largest member",
    )
    allow_no_gain: bool = Field(
        False, description="promote also a version that is neither faster nor more accurate than the base model"
    )
    rollback: bool = Field(False, description="go back to the champion before the present one")
    work_dir: Annotated[WorkDir, Usage(operational=True)] = Field(
        ".sensai", description="folder of working files: locks"
    )

    @model_validator(mode="after")
    def _back_is_no_choice(self) -> Self:
        if self.rollback and self.version is not None:
            raise ValueError(f"version={self.version}: rollback=true goes back to the version before the champion")
        return self


class Predict(EntryPoint):
    """The images to label, and the ensemble that labels them."""

    owner = "predict"

    model_uri: Annotated[GivenText, Usage(by_content=True)] = Field(
        "models:/sensai-ensemble@champion",
        description="registered ensemble: models:/<name>@<alias>, models:/<name>/<version>, models:/<model id>, "
        "runs:/<run id>/ensemble, or a folder with its files",
    )
    images: Annotated[FilePath, Usage(by_content=True)] = Field(
        "-", description="image file, folder of images, or - for frames on standard input"
    )
    frames: Literal["json", "raw"] = Field(
        "json",
        description='format of standard input; json: one object per line with "path" or "pixels", and "id"; raw: frames of the '
        "network's height, width and channels, one byte per value",
    )


class Serve(EntryPoint):
    """The server: its ensemble, its address, its replicas."""

    owner = "serve"

    model_uri: Annotated[GivenText, Usage(by_content=True)] = Field(
        "models:/sensai-ensemble@champion",
        description="registered ensemble, as for predict; an alias is read once, at the start",
    )
    host: Host = Field("127.0.0.1", description="address to listen on; 0.0.0.0: all addresses, without any protection")
    port: Port = Field(8000, description="port to listen on")
    ray_address: RayAddress = Field(
        "",
        description="host:port of a running Ray cluster, or auto; its head listens (default: start Ray on this machine "
        "for this server)",
    )
    shards: OptionalParts = Field(
        None,
        description="number of parts that share the members (default: one per CPU of the cluster, at most one per member)",
    )
    replicas: Processes = Field(1, description="replicas of each part")
    replicas_per_node: OptionalProcesses = Field(
        None, description="most replicas of a part on one machine (default: any number)"
    )
    threads: Threads = Field(1, description="CPUs of each replica; its members run one after another")
    resources: Resources = Field({}, description="name=amount,...: custom Ray resources that each replica takes")
