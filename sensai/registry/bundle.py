"""The members as ONNX files with a JSON manifest: all that the serving side reads."""

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from sensai.data.batches import Normalization
from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import Calibration
from sensai.runtimes.export import export_onnx

FORMAT_VERSION = 2
MANIFEST = "manifest.json"


class _FromRawImages(nn.Module):
    """A member from raw images to its outputs."""

    def __init__(self, network: nn.Module, normalization: Normalization) -> None:
        super().__init__()
        self.network = network
        self.normalization = normalization

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, C) to float32 (N, 1), (N, 1 + g) or (N, K)."""
        outputs: Tensor = self.network(self.normalization(images.permute(0, 3, 1, 2)))
        return outputs


def export_bundle(ensemble: Ensemble, calibration: Calibration, folder: Path) -> None:
    """Write one ONNX file a member, from uint8 images (N, H, W, C) to its outputs, and last the manifest, which
    pins each file by its digest.
    """
    channels, height, width = ensemble.spec.input_shape
    example = torch.zeros(2, height, width, channels, dtype=torch.uint8)
    members = []
    for number, member in enumerate(ensemble.members):
        file = f"member_{number:03d}.onnx"
        raw = _FromRawImages(member.network.cpu(), ensemble.normalization).eval()
        export_onnx(raw, example).save(str(folder / file), external_data=False)
        digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        members.append({"classes": list(member.classes), "file": file, "sha256": digest})
    manifest = {
        "format_version": FORMAT_VERSION,
        "class_names": list(ensemble.class_names),
        "image_shape": [height, width, channels],
        "members": members,
        "calibration": calibration.to_json(),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
