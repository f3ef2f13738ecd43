"""Weights of other repositories are loaded strictly, and nothing in them is executed."""

import argparse
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from sensai.config import BaselineConfig
from sensai.data.batches import Normalization
from sensai.errors import InputError
from sensai.models.factory import NetworkSpec, build
from sensai.models.foreign_checkpoints import adopt, read_checkpoint, rename_keys
from tests.conftest import SHARED_DATA
from tests.helpers.networks import images_for, make

SPEC = NetworkSpec("small_cnn", 10, 1, (8, 8))


def _prefixed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"module.{key}": value for key, value in tensors.items()}


def _without_counters(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    ("suffix", "wrap"),
    [
        (".safetensors", dict),
        (".safetensors", _prefixed),
        (".pth", dict),
        (".pt", lambda tensors: {"state_dict": tensors, "epoch": 3, "best_prec1": 91.7}),
        (".tar", lambda tensors: {"net": tensors, "acc": 91.7}),
        (".th", lambda tensors: {"model": tensors}),
        (".pth", lambda tensors: {"model_state_dict": tensors, "epoch": 3}),
        (".pth", lambda tensors: {"model": tensors, "args": argparse.Namespace(lr=0.1, arch="resnet50")}),
        (".pth", lambda tensors: {"state_dict": _prefixed(tensors)}),
        (".pth", _without_counters),
        # PyTorch Lightning, timm, torchvision's references, YOLO's descendants, torch.compile.
        (
            ".ckpt",
            lambda tensors: {"epoch": 2, "state_dict": tensors, "loops": {}, "callbacks": {}, "lr_schedulers": []},
        ),
        (".pth", lambda tensors: {"epoch": 1, "state_dict_ema": tensors}),
        (".pth", lambda tensors: {"ema": tensors, "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}}}),
        (".pth", lambda tensors: {"model_ema": {"n_averaged": torch.tensor(7), **_prefixed(tensors)}, "epoch": 3}),
        (".pth", lambda tensors: {"model": {"state_dict": tensors}}),
        (".pth", lambda tensors: {"ema": {"model": {"state_dict": tensors}}}),
        (".pth", lambda tensors: {"weights": tensors}),
        (".pt", lambda tensors: {f"module._orig_mod.{key}": value for key, value in tensors.items()}),
        (
            ".pth",
            lambda tensors: {
                "state_dict": tensors,
                "best_acc": np.float64(91.2),
                "seen": np.int64(7),
                "ok": np.bool_(1),
            },
        ),
        (
            ".pth",
            lambda tensors: {"state_dict": tensors, "history": np.array([1.0, 2.0]), "names": np.array(["a", "b"])},
        ),
        (".pth", lambda tensors: {"state_dict": tensors, "random": np.random.RandomState(0).get_state()}),
    ],
)
def test_every_common_form_gives_the_same_network(tmp_path: Path, suffix: str, wrap: Any) -> None:
    trained, spec = make("small_cnn")
    path = tmp_path / f"weights{suffix}"
    content = wrap(dict(trained.state_dict()))
    if suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    network = build(spec).eval()
    adopt(network, read_checkpoint(path), path)
    images = images_for(spec, 3)
    with torch.no_grad():
        assert torch.equal(network(images), trained(images))


def test_the_old_format_of_torch_is_read(tmp_path: Path) -> None:
    trained, _ = make("small_cnn")
    torch.save(trained.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_checkpoint(tmp_path / "old.pth").keys() == trained.state_dict().keys()


class _Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "executed"
    content = {"state_dict": {"weight": torch.zeros(1)}, "extra": _Bomb(mark)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="cannot be read as plain weights") as caught:
        read_checkpoint(path)
    assert not mark.exists()
    assert "\n" not in str(caught.value)
    torch.load(path, weights_only=False)  # The file would do it.
    assert mark.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x80\x04"])
def test_corrupt_files_are_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"checkpoint='.*broken{suffix}'") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    tensors = dict(make("small_cnn")[0].state_dict())
    if suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="cannot be read as plain weights"):
        read_checkpoint(path)


def test_missing_files_and_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pth': there is no such file"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(InputError, match="there is no such file; this is a folder"):
        read_checkpoint(tmp_path)
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(InputError, match=r"checkpoint='.*pipe\.pth': there is no such file; this is a named pipe"):
        read_checkpoint(tmp_path / "pipe.pth")
    (tmp_path / "weights.npz").write_bytes(b"x")
    with pytest.raises(InputError, match=r"allowed file types are \.safetensors, \.pth"):
        read_checkpoint(tmp_path / "weights.npz")


@pytest.mark.parametrize(
    "content",
    [
        *({}, {"epoch": 3}, [torch.zeros(1)], torch.zeros(3), {"state_dict": {"epoch": 3}}, {"net": {}}),
        *({0: torch.zeros(1)}, {"state_dict": {1: torch.zeros(1), "w": torch.zeros(1)}}, {("a", 1): torch.zeros(1)}),
        {"ema": {"ema": 3}},
    ],
)
def test_files_without_a_state_dict_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(
        InputError,
        match=r"holds no state dict, plainly or under state_dict, model_state_dict, net, model, weights, .*, ema",
    ):
        read_checkpoint(tmp_path / "other.pth")


def test_the_first_key_that_does_not_fit_is_named() -> None:
    network, source = build(SPEC), Path("some.pth")
    tensors = dict(build(SPEC).state_dict())
    del tensors["features.3.weight"], tensors["features.4.bias"]
    tensors |= {"fc.weight": torch.zeros(1), "zz": torch.zeros(1)}
    tensors["features.0.weight"] = torch.zeros(32, 3, 3, 3)
    with pytest.raises(InputError, match=r"checkpoint='some\.pth' does not fit") as caught:
        adopt(network, tensors, source)
    message = str(caught.value)
    assert "missing 'features.3.weight'" in message
    assert "unexpected 'fc.weight'" in message
    assert "'features.0.weight' has shape (32, 3, 3, 3), not (32, 1, 3, 3)" in message
    assert "features.4.bias" not in message
    assert "zz" not in message


@pytest.mark.parametrize("key", ["classifier.bias", "features.1.running_var", "features.1.weight"])
def test_nothing_but_counters_may_be_missing(key: str) -> None:
    tensors = dict(build(SPEC).state_dict())
    del tensors[key]
    with pytest.raises(InputError, match=f"first missing '{key}'"):
        adopt(build(SPEC), tensors, Path("x"))


def test_a_network_that_was_refused_is_not_half_loaded() -> None:
    network = build(SPEC)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    tensors = {key: value + 1 for key, value in before.items()}
    tensors["classifier.bias"] = torch.full((10,), torch.nan)
    with pytest.raises(InputError, match=r"'classifier\.bias' is not finite"):
        adopt(network, tensors, Path("x"))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_entries_without_a_place_are_left_out_where_all_modules_are_filled(caplog: pytest.LogCaptureFixture) -> None:
    trained, spec = make("small_cnn")
    counters = {f"{name}.total_ops".lstrip("."): torch.zeros(1) for name, _ in trained.named_modules()}
    network = build(spec)
    adopt(network, dict(trained.state_dict()) | counters, Path("best.pth.tar"))
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in trained.state_dict().items())
    (line,) = caplog.messages
    assert line.startswith(f"checkpoint='best.pth.tar': left out what fits no module ({len(counters)}): ")
    assert "classifier.total_ops" in line
    assert line.endswith(", ...")


_WEIGHT, _NORM = "features.3.weight", "features.1.running_var"


@pytest.mark.parametrize(
    ("key", "change", "reason"),
    [
        (_WEIGHT, lambda value: value.index_fill(0, torch.tensor([0]), torch.nan), "is not finite"),
        (_WEIGHT, lambda value: value.index_fill(0, torch.tensor([0]), torch.inf), "is not finite"),
        ("features.1.running_mean", lambda value: value - torch.inf, "is not finite"),
        # The value is finite in its own precision, but infinite in the network's.
        (_WEIGHT, lambda value: value.double() + 1e300, "is not finite"),
        (_NORM, lambda value: value - 5, "is negative"),
        (_WEIGHT, lambda value: value.long(), "is int64, not float32"),
        (_WEIGHT, lambda value: value.byte(), "is uint8, not float32"),
        (_WEIGHT, lambda value: value.bool(), "is bool, not float32"),
        (_WEIGHT, lambda value: value.to(torch.complex64), "is complex64, not float32"),
        ("features.1.num_batches_tracked", lambda value: value.to(torch.complex64), "is complex64, not int64"),
        ("features.1.num_batches_tracked", lambda value: value * torch.nan, "is not finite"),
        (_WEIGHT, lambda value: value.to_sparse(), r"is torch\.sparse_coo, not a dense tensor"),
        ("classifier.weight", lambda value: value.to_sparse_csr(), r"is torch\.sparse_csr, not a dense tensor"),
        (
            _WEIGHT,
            lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
            "is quantised, not a dense tensor",
        ),
        (_WEIGHT, lambda value: value.to("meta"), "is without values, not a dense tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:torch.quantize_per_tensor")
def test_what_are_no_weights_is_refused_by_name(tmp_path: Path, key: str, change: Any, reason: str) -> None:
    tensors, path = dict(build(SPEC).state_dict()), tmp_path / "diverged.pth"
    torch.save(tensors | {key: change(tensors[key])}, path)
    network = build(SPEC)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(InputError, match=rf"checkpoint='.*diverged\.pth': '{key}' {reason}") as caught:
        adopt(network, read_checkpoint(path), path)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_taken(dtype: torch.dtype) -> None:
    trained, _ = make("small_cnn")
    tensors = {key: value.to(dtype) for key, value in trained.state_dict().items()}
    network = build(SPEC)
    adopt(network, tensors, Path("x"))
    assert torch.equal(network.state_dict()[_WEIGHT], trained.state_dict()[_WEIGHT].to(dtype).float())


# ---------------------------------------------------------------------------------------------- where the weights stand


@pytest.fixture
def several(tmp_path: Path) -> Path:
    path = tmp_path / "several.pth"
    places = {"ema": torch.tensor(1.0), "state_dict": torch.tensor(2.0)}
    content: dict[str, Any] = {place: {"w": value} for place, value in places.items()}
    content |= {"model": {"state_dict": {"w": torch.tensor(3.0)}, "epoch": 2}, "my.student": {"w": torch.tensor(4.0)}}
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("checkpoint_key", "value"),
    [("", 2), ("state_dict", 2), ("ema", 1), ("model", 3), ("model.state_dict", 3), ("my.student", 4)],
)
def test_the_key_chooses_where_there_are_several(
    several: Path, caplog: pytest.LogCaptureFixture, checkpoint_key: str, value: float
) -> None:
    assert float(read_checkpoint(several, checkpoint_key=checkpoint_key)["w"]) == value
    said = "holds weights under state_dict, model.state_dict, ema; state_dict is taken, checkpoint_key names another"
    assert [message.partition(": ")[2] for message in caplog.messages] == ([] if checkpoint_key else [said])


@pytest.mark.parametrize("checkpoint_key", ["emma", "model.ema", "model.epoch", "state_dict.w", "."])
def test_a_key_of_nothing_is_refused(several: Path, checkpoint_key: str) -> None:
    with pytest.raises(
        InputError, match=rf"checkpoint_key='{checkpoint_key}': '.*several\.pth' holds no state dict there; "
    ):
        read_checkpoint(several, checkpoint_key=checkpoint_key)


def test_near_names_of_a_key_are_suggested(several: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there; did you mean ema\?"):
        read_checkpoint(several, checkpoint_key="emma")
    save_file({"w": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(InputError, match="there; it holds its weights plainly"):
        read_checkpoint(tmp_path / "plain.safetensors", checkpoint_key="ema")


@pytest.mark.parametrize(
    ("drop", "left"),
    [
        (("total_ops", "*.total_ops"), {"w", "a.w", "extra"}),
        (("*total_ops", "extra"), {"w", "a.w"}),
        (("a.*", "b.*", "total_ops"), {"w", "extra"}),
    ],
)
def test_patterns_leave_entries_out(tmp_path: Path, drop: tuple[str, ...], left: set[str]) -> None:
    tensors = dict.fromkeys(("w", "a.w", "total_ops", "a.total_ops", "b.total_ops", "extra"), torch.zeros(1))
    torch.save({"state_dict": _prefixed(tensors)}, tmp_path / "x.pth")
    assert read_checkpoint(tmp_path / "x.pth", drop=drop).keys() == left


def test_what_is_no_tensor_can_be_left_out(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1), "total_ops": 7}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"'total_ops' is int, not a tensor; drop=total_ops leaves it out"):
        read_checkpoint(tmp_path / "x.pth")
    assert read_checkpoint(tmp_path / "x.pth", drop=["total_ops"]).keys() == {"w"}


@pytest.mark.parametrize(
    ("drop", "message"),
    [(["v"], r"drop='v': fits no key of '.*x\.pth'; the first is 'w'"), (["*"], r"drop='\*': leaves nothing of")],
)
def test_a_pattern_that_cannot_be_meant_is_refused(tmp_path: Path, drop: list[str], message: str) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=message):
        read_checkpoint(tmp_path / "x.pth", drop=drop)


def _test_images(every: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return every n-th test image of the shared CIFAR-10, with its label (classes in alphabetical order)."""
    images, classes = [], []
    with tarfile.open(SHARED_DATA / "cifar10-jpeg.tar.xz") as archive:
        position = 0
        for member in archive:
            parts = Path(member.name).parts
            if not member.isfile() or "test" not in parts:
                continue
            position += 1
            if position % every == 0:
                content = archive.extractfile(member)
                assert content is not None
                pixels = np.asarray(Image.open(io.BytesIO(content.read())).convert("RGB"))
                images.append(torch.from_numpy(pixels.transpose(2, 0, 1).copy()))
                classes.append(parts[-2])
    names = sorted(set(classes))
    assert len(names) == 10
    return torch.stack(images), torch.tensor([names.index(each) for each in classes])


REAL = [
    (
        "resnet20-cifar10-jpeg.safetensors",
        "resnet20",
        {"shortcut": "parameter_free"},
        Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        0.876,
    ),
    (
        "vgg11_bn-cifar10-jpeg.safetensors",
        "vgg11_bn",
        {},
        Normalization((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        0.854,
    ),
]


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"the trained weights in {SHARED_DATA} are not here")
class TestRealCheckpoints:
    @pytest.fixture(scope="class")
    def some_images(self) -> tuple[torch.Tensor, torch.Tensor]:
        return _test_images(every=20)

    @pytest.mark.parametrize(("file", "arch", "arch_args", "normalization", "accuracy"), REAL)
    def test_they_are_adopted_and_as_good_as_measured(
        self,
        some_images: tuple[torch.Tensor, torch.Tensor],
        file: str,
        arch: str,
        arch_args: dict[str, str],
        normalization: Normalization,
        accuracy: float,
    ) -> None:
        network: nn.Module = build(NetworkSpec(arch, 10, 3, (32, 32), arch_args))
        adopt(network, read_checkpoint(SHARED_DATA / file), SHARED_DATA / file)
        images, labels = some_images
        with torch.no_grad():
            right = (network.eval()(normalization(images)).argmax(1) == labels).float().mean()
        # With 500 images the standard deviation is 1.5 points.
        assert float(right) == pytest.approx(accuracy, abs=0.05)

    def test_a_projection_network_does_not_take_the_parameter_free_one(self) -> None:
        path = SHARED_DATA / "resnet20-cifar10-jpeg.safetensors"
        network = build(NetworkSpec("resnet20", 10, 3, (32, 32), {}))
        with pytest.raises(InputError, match=r"first missing 'layer2\.0\.shortcut\.0\.weight'"):
            adopt(network, read_checkpoint(path), path)


# ------------------------------------------------------------------------------------------- keys of other repositories


def renamed(keys: list[str], *pairs: tuple[str, str]) -> list[str]:
    return list(rename_keys(dict.fromkeys(keys, torch.zeros(1)), pairs, Path("some.pth")))


@pytest.mark.parametrize(
    ("pair", "key", "expected"),
    [
        (("linear", "fc"), "linear.weight", "fc.weight"),
        (("linear", "fc"), "module.linear.weight", "module.fc.weight"),
        (("downsample", "shortcut"), "layer2.0.downsample.1.bias", "layer2.0.shortcut.1.bias"),
        (("module.encoder", "features"), "module.encoder.0.weight", "features.0.weight"),
        (("features.module", "features"), "features.module.0.weight", "features.0.weight"),
        (("norm.1", "norm1"), "layer.norm.1.bias", "layer.norm1.bias"),
        (("model", ""), "model.conv1.weight", "conv1.weight"),
        (("a", "b.a"), "a.a.weight", "b.a.b.a.weight"),
        (("weight", r"\1"), "fc.weight", r"fc.\1"),
    ],
)
def test_parts_of_keys_are_replaced(pair: tuple[str, str], key: str, expected: str) -> None:
    assert renamed([key], pair) == [expected]


@pytest.mark.parametrize("key", ["linear1.weight", "my_linear.weight", "nonlinear.0.bias", "layer.linears.bias"])
def test_only_whole_parts_are(key: str) -> None:
    assert renamed([key, "linear.weight"], ("linear", "fc")) == [key, "fc.weight"]


def test_pairs_apply_one_after_the_other() -> None:
    assert renamed(["a.weight", "b.weight"], ("a", "c"), ("b", "a"), ("c", "b")) == ["b.weight", "a.weight"]


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("line", "fc"), r"rename='line=fc': no key of 'some\.pth' has this part; the first is 'linear\.weight'"),
        (("linear.0", "fc"), r"rename='linear\.0=fc': no key"),
        (("linear", "fc"), r"rename='linear=fc': makes two keys of 'some\.pth' the same"),
    ],
)
def test_a_renaming_that_cannot_be_meant_is_refused(pair: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        renamed(["linear.weight", "fc.weight"], pair)


def _keys(depth: int, convolutions: int, shortcut: str, head: str, stages_with_shortcut: tuple[int, ...]) -> set[str]:
    """Return the parameters of a residual network under the names of a repository."""
    keys = {"conv1.weight", "bn1.weight", "bn1.bias", f"{head}.weight", f"{head}.bias"}
    for stage in (1, 2, 3):
        for block in range((depth - 2) // (3 * convolutions)):
            at = f"layer{stage}.{block}"
            for layer in range(1, convolutions + 1):
                keys |= {f"{at}.conv{layer}.weight", f"{at}.bn{layer}.weight", f"{at}.bn{layer}.bias"}
            if block == 0 and stage in stages_with_shortcut:
                keys |= {f"{at}.{shortcut}.{part}" for part in ("0.weight", "1.weight", "1.bias")}
    return keys


@pytest.mark.parametrize(
    ("arch", "arch_args", "keys", "renames"),
    [
        # Keys of bearpaw/pytorch-classification, which GuanhuaWang/sensAI also uses.
        *(
            (f"resnet{depth}", {}, _keys(depth, 3, "downsample", "fc", (1, 2, 3)), "downsample=shortcut,fc=linear")
            for depth in (110, 164)
        ),
        (
            "resnet110",
            {"block": "basic"},
            _keys(110, 2, "downsample", "fc", (2, 3)),
            "downsample=shortcut,fc=linear",
        ),
        # Keys of akamaster/pytorch_resnet_cifar10, with parameter-free shortcuts.
        ("resnet110", {"block": "basic", "shortcut": "parameter_free"}, _keys(110, 2, "", "linear", ()), ""),
    ],
)
def test_residual_nets_of_other_repositories_load(
    tmp_path: Path, arch: str, arch_args: dict[str, str], keys: set[str], renames: str
) -> None:
    own, spec = make(arch, arch_args)
    backwards = {new: old for old, new in BaselineConfig(rename=renames).rename}
    theirs = {
        ".".join(["module", *(backwards.get(part, part) for part in key.split("."))]): value
        for key, value in own.state_dict().items()
        # Checkpoints contain nothing of parameter-free shortcuts.
        if not key.endswith("shortcut.weight")
    }
    parameters = {f"module.{key}" for key in keys}
    assert {key for key in theirs if key.endswith(("weight", "bias"))} == parameters
    path = tmp_path / "model_best.pth.tar"
    torch.save({"epoch": 164, "state_dict": theirs, "acc": 93.1, "best_acc": torch.tensor(93.4)}, path)
    network = build(spec)
    adopt(network, read_checkpoint(path, BaselineConfig(rename=renames).rename), path)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in own.state_dict().items())


# Positions of the sixteen convolutions of VGG-19.
_VGG19 = [0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49]
_BLOCK = ["conv1", "bn1", "conv2", "bn2", "conv3", "bn3"]
_DOWN = [*_BLOCK, "conv4", "bn4", "conv5", "bn5"]


@pytest.mark.parametrize(
    ("arch", "layers"),
    [
        # Keys of kuangliu/pytorch-cifar, which GuanhuaWang/sensAI also uses: no renaming is needed.
        (
            "mobilenetv2",
            ["conv1", "bn1", "conv2", "bn2", "linear"]
            + [f"layers.{block}.{layer}" for block in range(17) for layer in _BLOCK]
            + [f"layers.{block}.shortcut.{part}" for block in (0, 1, 10, 16) for part in (0, 1)],
        ),
        (
            "shufflenetv2",
            ["conv1", "bn1", "conv2", "bn2", "linear"]
            + [f"layer{stage}.0.{layer}" for stage in (1, 2, 3) for layer in _DOWN]
            + [
                f"layer{stage}.{block}.{layer}"
                for stage, count in ((1, 3), (2, 7), (3, 3))
                for block in range(1, count + 1)
                for layer in _BLOCK
            ],
        ),
        ("vgg19_bn", [f"features.{index + part}" for index in _VGG19 for part in (0, 1)] + ["classifier"]),
    ],
)
def test_layers_are_called_as_in_the_repositories(arch: str, layers: list[str]) -> None:
    keys = make(arch)[0].state_dict()
    assert {key.rpartition(".")[0] for key in keys} == set(layers)


def test_code_below_the_state_dict_is_refused_and_named(tmp_path: Path) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "executed"
    torch.save({"net": {"weight": torch.zeros(1), "deep": [{"deeper": (_Bomb(mark),)}]}}, path)
    with pytest.raises(InputError, match=rf"it holds {os.mkdir.__module__}\.mkdir, which is code and is not run"):
        read_checkpoint(path, [("weight", "bias")])
    assert not mark.exists()


class _Holder:
    """Any class; making an instance would run its code."""

    def __init__(self) -> None:
        self.weight = torch.zeros(1)


def test_classes_are_refused_whatever_they_hold(tmp_path: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "args": _Holder()}, tmp_path / "class.pth")
    with pytest.raises(InputError, match=r"it holds .*_Holder, which is code"):
        read_checkpoint(tmp_path / "class.pth")


def test_a_stored_command_line_hides_nothing(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.ones(1)}, "args": argparse.Namespace(lr=0.1, then=_Holder())}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"_Holder, which is code"):
        read_checkpoint(tmp_path / "a.pth")
