"""The members as ONNX files with a JSON manifest: all that the serving side reads."""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from sensai.data.batches import Normalization
from sensai.ensemble import Ensemble, class_scores
from sensai.runtimes.export import export_onnx

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


class _ScoredMember(nn.Module):
    """A member from raw images to the raw scores of its classes."""

    def __init__(self, network: nn.Module, normalization: Normalization, group_size: int) -> None:
        super().__init__()
        self.network = network
        self.normalization = normalization
        self.group_size = group_size

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, C) to float32 (N, g)."""
        return class_scores(self.network(self.normalization(images.permute(0, 3, 1, 2))), self.group_size)


def export_bundle(ensemble: Ensemble, folder: Path) -> None:
    """Write one ONNX file a member, from uint8 images (N, H, W, C) to the raw scores of its classes, and the manifest last."""
    channels, height, width = ensemble.spec.input_shape
    example = torch.zeros(2, height, width, channels, dtype=torch.uint8)
    members = []
    for number, member in enumerate(ensemble.members):
        file = f"member_{number:03d}.onnx"
        scored = _ScoredMember(member.network.cpu(), ensemble.normalization, len(member.classes)).eval()
        export_onnx(scored, example).save(str(folder / file), external_data=False)
        members.append({"classes": list(member.classes), "file": file})
    manifest = {
        "format_version": FORMAT_VERSION,
        "class_names": list(ensemble.class_names),
        "image_shape": [height, width, channels],
        "members": members,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
