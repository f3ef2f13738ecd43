"""An ensemble in memory: it answers, is saved and loaded, and exported. N images, K classes."""

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import torch
from torch import Tensor, nn

from sensai import ensemble as plain
from sensai.analysis.rounding import in_short
from sensai.api.display import as_html
from sensai.data.batches import Normalization
from sensai.ensemble import MANIFEST, Member, load_ensemble, save_ensemble
from sensai.ensemble.calibration import RAW, Calibration
from sensai.errors import InputError
from sensai.evaluation import Size, size
from sensai.evaluation.roles import TITLES, role_of
from sensai.files import reading, whole_file, write_text
from sensai.grouping.partitions import class_label
from sensai.models.architecture_names import LIVE
from sensai.models.factory import NetworkSpec
from sensai.models.live_networks import plain_copy
from sensai.runtimes import TOLERANCE
from sensai.runtimes.export import INPUT, export_combined

# What the folder holds beside the members; one that a stage wrote lacks it.
_ANSWERS = "answers.json"
_FORMAT_VERSION = 1


class Ensemble(plain.Ensemble):
    """Pruned members on the same images, and the way in which their outputs become class probabilities.

    Attributes:
        base_size: of the base model; None where the ensemble was loaded from a run's files.
        is_raw_known: the normalisation of its images leads back to pixels.
        calibration: turns the members' outputs into probabilities; `retrain` and `evaluate` fit it on validation data.
        history: every epoch of every member; columns member, classes, epoch and the validation metrics.
    """

    def __init__(
        self,
        members: Sequence[Member],
        class_names: tuple[str, ...],
        spec: NetworkSpec,
        normalization: Normalization,
        *,
        base_size: Size | None = None,
        is_raw_known: bool = False,
    ) -> None:
        super().__init__(list(members), class_names, spec, normalization)
        self.base_size = base_size
        self.is_raw_known = is_raw_known
        self.calibration: Calibration = RAW
        self.history = pd.DataFrame()

    def forward(self, images: Tensor) -> Tensor:
        """Return class probabilities float32 (N, K).

        Args:
            images: float (N, C, H, W), as the base model took them; or uint8, which are normalised first.
        """
        if images.dtype == torch.uint8:
            images = self.normalization(images)
        return self.calibration.of_tensors(self.member_logits(images), self.groups)

    @property
    def sizes(self) -> list[Size]:
        """Return the size of each member."""
        return [size(member.network, self.spec.input_shape) for member in self.members]

    @property
    def flops_share(self) -> float:
        """Return the FLOPs of the largest member as a share of the base model's: the `target_flops` of a fair yardstick.

        Raises:
            InputError: the base model's are not known.
        """
        if self.base_size is None:
            raise InputError("flops_share: is not known of an ensemble that was loaded from a run's files")
        return max(each.flops for each in self.sizes) / self.base_size.flops

    @property
    def role(self) -> str:
        """Return what it is: `ensemble`, `control`, `replicas` or `base`."""
        is_cut = self.base_size is None or max(each.params for each in self.sizes) < self.base_size.params
        return role_of(self.groups, len(self.class_names), is_cut=is_cut)

    @property
    def table(self) -> pd.DataFrame:
        """Return a row a member: classes, params, flops, bytes, and where it is known their share of the base model's FLOPs."""
        names = [class_label(member.classes, self.class_names) for member in self.members]
        rows = pd.DataFrame({"classes": names}).join(pd.DataFrame([asdict(each) for each in self.sizes]))
        return rows if self.base_size is None else rows.assign(flops_share=rows["flops"] / self.base_size.flops)

    def save(self, folder: str | Path) -> None:
        """Write the ensemble into a folder: safetensors and JSON, nothing that runs when it is loaded.

        Raises:
            StorageError: it cannot be written.
        """
        save_ensemble(self, Path(folder))
        content = {
            "format_version": _FORMAT_VERSION,
            "calibration": self.calibration.to_json(),
            "base_size": None if self.base_size is None else asdict(self.base_size),
            "is_raw_known": self.is_raw_known,
        }
        write_text(Path(folder) / _ANSWERS, json.dumps(content, indent=1))

    def to_onnx(self, path: str | Path) -> None:
        """Write all members and their combination as one ONNX file, from `images` to `probabilities` (N, K).

        The images are float32 (N, C, H, W), as the base model took them.

        Raises:
            StorageError: it cannot be written.
            RuntimeError: ONNX Runtime gives other answers than this ensemble.
        """
        networks = [copy.deepcopy(member.network).cpu().eval() for member in self.members]
        example = torch.rand(2, *self.spec.input_shape, generator=torch.Generator().manual_seed(0))
        calibration, groups = self.calibration, self.groups

        def combined(outputs: list[Tensor]) -> Tensor:
            return calibration.of_tensors(outputs, groups)

        model = export_combined(networks, combined, example)
        with torch.no_grad():
            expected = combined([network(example) for network in networks]).numpy()
        _check_answers(model, example.numpy(), expected)
        with whole_file(Path(path), model.ByteSize()) as temporary:
            onnx.save(model, temporary)

    def __repr__(self) -> str:
        sizes = self.sizes
        largest, together = max(each.flops for each in sizes), sum(each.flops for each in sizes)
        base = "" if self.base_size is None else f", the base model {in_short(self.base_size.flops)}FLOPs"
        number = f"{len(sizes)} networks" if len(sizes) > 1 else "one network"
        return (
            f"{TITLES[self.role].capitalize()} of {number} for {len(self.class_names)} classes, cut from "
            f"{self.spec.arch.removeprefix(LIVE)}; the largest takes {in_short(largest)}FLOPs, all "
            f"{in_short(together)}FLOPs{base}; combined by {self.calibration.method}"
        )

    def _repr_html_(self) -> str:
        return as_html(repr(self), self.table)


def _check_answers(model: onnx.ModelProto, images: np.ndarray, expected: np.ndarray) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    error = float(np.abs(session.run(None, {INPUT: images})[0] - expected).max())
    if error > TOLERANCE:
        raise RuntimeError(f"the ONNX model and the ensemble give different probabilities, by {error:.2g}")


def save(ensemble: Ensemble, folder: str | Path) -> None:
    """Write an ensemble into a folder, as `ensemble.save` does.

    Raises:
        StorageError: it cannot be written.
    """
    ensemble.save(folder)


def load(folder: str | Path, model: nn.Module | None = None) -> Ensemble:
    """Return the ensemble that `save` wrote, bit for bit, in eval mode on the CPU.

    A folder `members` of a run of `retrain` can be read too.

    Args:
        folder: that it was saved into.
        model: a network of the base model's architecture, with any weights, where that was one in memory; it is not changed.
            Networks that sensAI, torchvision or timm build by a name need none.

    Raises:
        InputError: there is no such ensemble, it needs `model`, or that is of another architecture.
    """
    place = Path(folder)
    if not (place / MANIFEST).is_file():
        raise InputError(f"folder={str(folder)!r}: there is no ensemble (no {MANIFEST})")
    network = None if model is None else plain_copy(model)
    with reading(f"folder={str(folder)!r}: the ensemble", "or `model` is not of the architecture that it was cut from"):
        found = load_ensemble(place, network)
        content = json.loads((place / _ANSWERS).read_text()) if (place / _ANSWERS).is_file() else None
        if content is None:
            return Ensemble(found.members, found.class_names, found.spec, found.normalization).eval()
        if content["format_version"] != _FORMAT_VERSION:
            raise ValueError(f"{_ANSWERS} has format version {content['format_version']}, not {_FORMAT_VERSION}")
        loaded = Ensemble(
            found.members,
            found.class_names,
            found.spec,
            found.normalization,
            base_size=None if content["base_size"] is None else Size(**content["base_size"]),
            is_raw_known=bool(content["is_raw_known"]),
        )
        loaded.calibration = Calibration.from_json(content["calibration"])
    return loaded.eval()
