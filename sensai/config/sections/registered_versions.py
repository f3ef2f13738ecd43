"""The parameters of the entry points that use registered versions."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sensai.config.bounds import (
    FilePath,
    GivenText,
    Host,
    Mebibytes,
    ModelName,
    OptionalParts,
    OptionalProcesses,
    OptionalVersion,
    Port,
    Processes,
    RayAddress,
    Seconds,
    Share,
    Threads,
    WorkDir,
    is_loopback,
)
from sensai.config.conditions import Given, Is
from sensai.config.entry_point import EntryPoint
from sensai.config.parameter_types import Resources
from sensai.config.usage import Usage, default_texts

ON_RAY = Is("backend", "ray") | Given("ray_address")
ON_ONE_MACHINE = ~ON_RAY
_ALIAS = re.compile("models:/[^@/]+@[^@/]+")


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
    """The server: its ensemble, its address, who may ask it, and its replicas on a cluster."""

    owner = "serve"

    model_uri: Annotated[GivenText, Usage(by_content=True)] = Field(
        "models:/sensai-ensemble@champion",
        description="registered ensemble, as for predict; an alias is read once, at the start, unless follow_alias=true",
    )
    follow_alias: Annotated[bool, Usage(when=ON_ONE_MACHINE)] = Field(
        False, description="serve the version that the alias of model_uri moves to, without an interruption"
    )
    host: Host = Field("127.0.0.1", description="address to listen on; one beyond loopback needs token_file")
    port: Port = Field(8000, description="port to listen on")
    token_file: Annotated[FilePath, Usage(operational=True)] = Field(
        "", description="file with the token that requests must have: `Authorization: Bearer <token>`"
    )
    open_to_all: bool = Field(
        False, description="listen beyond loopback without a token, for everybody who reaches the port"
    )
    body_limit: Mebibytes = Field(
        16, description="MiB of the largest body; a larger one is refused, unless a single image as JSON needs more"
    )
    timeout: Seconds = Field(
        30, description="seconds that a body may take to arrive, and again its answer to be computed"
    )
    access_log: Annotated[FilePath, Usage(operational=True)] = Field(
        "", description="file that gets a JSON line per request; - for standard output (default: none)"
    )
    backend: Literal["local", "ray"] = Field(
        "local", description="local: one process on this machine; ray: replicas on a cluster, by Ray Serve"
    )
    ray_address: RayAddress = Field(
        "",
        description="host:port of a running Ray cluster, or auto, which also means backend=ray; its head listens "
        "(default: with backend=ray start Ray on this machine for this server)",
    )
    shards: Annotated[OptionalParts, Usage(when=ON_RAY)] = Field(
        None,
        description="number of parts that share the members (default: one per CPU of the cluster, at most one per member)",
    )
    replicas: Annotated[Processes, Usage(when=ON_RAY)] = Field(1, description="replicas of each part")
    replicas_per_node: Annotated[OptionalProcesses, Usage(when=ON_RAY)] = Field(
        None, description="most replicas of a part on one machine (default: any number)"
    )
    threads: Annotated[Threads, Usage(when=ON_RAY)] = Field(
        1, description="CPUs of each replica; its members run one after another"
    )
    resources: Annotated[Resources, Usage(when=ON_RAY)] = Field(
        {}, description="name=amount,...: custom Ray resources that each replica takes"
    )

    @property
    def on_ray(self) -> bool:
        """Return True if Ray Serve runs the members."""
        return self.backend == "ray" or bool(self.ray_address)

    @model_validator(mode="after")
    def _replicas_are_of_a_cluster(self) -> Self:
        defaults = default_texts(type(self))
        of_ray = ("shards", "replicas", "replicas_per_node", "threads", "resources")
        given = [f"{name}={self.text(name)}" for name in of_ray if self.text(name) != defaults[name]]
        if given and not self.on_ray:
            raise ValueError(f"{', '.join(given)}: goes with backend=ray or ray_address; one process runs all members")
        return self

    @model_validator(mode="after")
    def _an_alias_is_followed_here(self) -> Self:
        if self.follow_alias and self.on_ray:
            raise ValueError("follow_alias=true: goes with backend=local; start another server for another version")
        if self.follow_alias and not _ALIAS.fullmatch(self.model_uri):
            raise ValueError(f"model_uri={self.model_uri!r}: with follow_alias=true must be models:/<name>@<alias>")
        return self

    @model_validator(mode="after")
    def _others_need_a_token(self) -> Self:
        if not (is_loopback(self.host) or self.token_file or self.open_to_all):
            raise ValueError(
                f"host={self.host!r}: others than this machine could ask; give token_file, or open_to_all=true to let everybody"
            )
        return self
