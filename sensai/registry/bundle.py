"""The members as ONNX files with a JSON manifest; the serving side reads nothing else."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import onnx
from torch import Tensor, nn

from sensai.data.batches import Normalization
from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import Calibration
from sensai.files import whole_file, write_text
from sensai.registry.bundle_reader import FORMAT_VERSION, MANIFEST
from sensai.registry.image_format import ImageFormat
from sensai.runtimes.export import export_onnx
from sensai.sites import count_flops


class _FromImages(nn.Module):
    """A member that takes images as the format defines them."""

    def __init__(self, network: nn.Module, normalization: Normalization, image_format: ImageFormat) -> None:
        super().__init__()
        self.network = network
        self.normalization = normalization
        self.image_format = image_format

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 (N, 1), (N, 1 + g) or (N, K) for images of the format."""
        outputs: Tensor = self.network(self.normalization(self.image_format.to_pixels(images)))
        return outputs


def export_bundle(ensemble: Ensemble, calibration: Calibration, image_format: ImageFormat, folder: Path) -> str:
    """Write one ONNX file a member, from images of the format to its outputs, and then the manifest.

    The manifest pins each file by its digest.

    Returns:
        The SHA-256 of the manifest, which pins all files.

    Raises:
        StorageError: a file cannot be written.
    """
    shape = ensemble.spec.input_shape
    networks = [_FromImages(member.network.cpu(), ensemble.normalization, image_format) for member in ensemble.members]
    models = export_onnx([network.eval() for network in networks], image_format.example(*shape))
    members = []
    for number, (member, model) in enumerate(zip(ensemble.members, models, strict=True)):
        file = f"member_{number:03d}.onnx"
        with whole_file(folder / file, model.ByteSize()) as temporary:
            onnx.save(model, temporary)
        members.append(
            {
                "classes": list(member.classes),
                "file": file,
                "flops": count_flops(member.network, shape),
                "sha256": _digest(folder / file),
            }
        )
    manifest = {
        "format_version": FORMAT_VERSION,
        "class_names": list(ensemble.class_names),
        **asdict(image_format),
        "image_shape": image_format.shape(*shape),
        "members": members,
        "calibration": calibration.to_json(),
    }
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1))
    return _digest(folder / MANIFEST)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
