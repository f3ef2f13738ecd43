"""Every file, however broken, gives its content or an error of one line."""

import io
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from sensai.config import TuneConfig
from sensai.data.dataset_names import InputRule
from sensai.data.folders import image_folder
from sensai.data.images.single_images import Frame, Refused, from_files, from_json_lines, from_raw
from sensai.errors import InputError
from sensai.grouping.methods.groups_file import read_groups
from sensai.models.foreign_checkpoints import adopt, read_checkpoint
from sensai.models.small import SmallCNN
from sensai.stages.tune.search_space import space_of
from tests.fuzz.inputs import ODD_TEXTS, as_json, damaged, documents, fuzzed, numbers, only, scalars, short_texts, texts

SHAPE = (6, 5, 3)
CLASSES = ("a", "b", "c")
NETWORK = SmallCNN(num_classes=3, in_channels=1)
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO", "PCX")

pytestmark = pytest.mark.filterwarnings("ignore")  # of Pillow and torch, about what is broken


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a path for one file after the other."""
    return tmp_path_factory.mktemp("fuzz") / "file"


def _saved(content: Any, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _image(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)).save(buffer, form)
    return buffer.getvalue()


WEIGHTS = NETWORK.state_dict()
WHOLE_CHECKPOINTS = {
    ".pth": [_saved(WEIGHTS), _saved(WEIGHTS, zipped=False), _saved({"state_dict": WEIGHTS, "epoch": 3})],
    ".safetensors": [save(WEIGHTS)],
}
IMAGES = [_image(form) for form in FORMATS]

tensors = st.sampled_from([torch.zeros(2), torch.zeros(2, dtype=torch.int64), torch.tensor(torch.nan)])
keys = st.one_of(st.sampled_from(["state_dict", "model", "net", *WEIGHTS]), short_texts, st.integers(), st.none())
checkpoints = st.recursive(
    st.one_of(tensors, scalars), lambda inner: st.dictionaries(keys, inner, max_size=4), max_leaves=8
)
renames = st.lists(st.tuples(st.sampled_from(["features", "0", "weight", ".", "x"]), short_texts), max_size=2)


def _adopt(path: Path, pairs: list[tuple[str, str]]) -> None:
    with only(InputError):
        adopt(NETWORK, read_checkpoint(path, pairs), path)


@pytest.mark.parametrize("suffix", list(WHOLE_CHECKPOINTS))
def test_damaged_checkpoints(file: Path, suffix: str) -> None:
    path = file.with_suffix(suffix)

    @given(damaged(st.sampled_from(WHOLE_CHECKPOINTS[suffix])), renames)
    @fuzzed
    def check(content: bytes, pairs: list[tuple[str, str]]) -> None:
        path.write_bytes(content)
        _adopt(path, pairs)

    check()


def test_checkpoints_of_anything(file: Path) -> None:
    path = file.with_suffix(".pth")

    @given(checkpoints, renames)
    @fuzzed
    def check(content: Any, pairs: list[tuple[str, str]]) -> None:
        path.write_bytes(_saved(content))
        _adopt(path, pairs)

    check()


def assert_frames(found: Iterable[Frame | Refused]) -> None:
    for each in found:
        assert isinstance(each.name, str)
        if isinstance(each, Refused):
            assert "\n" not in each.reason
            assert len(each.reason) < 5000
        else:
            assert each.pixels.shape == SHAPE


def test_images(file: Path) -> None:
    @given(damaged(st.sampled_from(IMAGES)))
    @fuzzed
    def check(content: bytes) -> None:
        file.write_bytes(content)
        with only(InputError):
            assert_frames(from_files(file, SHAPE))

    check()


names = st.one_of(
    st.sampled_from(["train", "val", "valid", "test", "a", "b", "a.png", "b.JPG", ".hidden", "._a.png", "Thumbs.db"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=9).filter(
        lambda name: name not in (".", "..")
    ),
)
trees = st.dictionaries(
    st.lists(names, min_size=1, max_size=4).map("/".join), st.sampled_from([b"", *IMAGES]), max_size=6
)


@given(trees)
@fuzzed
def test_folders_of_images(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as parent:
        for name, content in files.items():
            path = Path(parent, name)
            # One name may be a file's and a folder's.
            if not any(each.is_file() for each in path.parents) and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        with only(InputError):
            source = image_folder(Path(parent))
            arrays = source.read(6, InputRule(None, None))
            for images, labels in arrays.splits.values():
                assert images[np.arange(len(labels))].shape == (len(labels), 3, 6, 6)
        with only(InputError):
            list(from_files(Path(parent), SHAPE))


pixels = st.one_of(
    st.lists(st.lists(st.one_of(st.integers(0, 255), numbers, scalars), max_size=3), max_size=3),
    st.lists(st.lists(st.lists(st.integers(-1, 256), min_size=3, max_size=3), min_size=2, max_size=2), max_size=2),
)
frames = st.one_of(
    st.fixed_dictionaries({"pixels": pixels}, optional={"id": scalars}),
    st.fixed_dictionaries({"path": st.one_of(short_texts, scalars)}),
    documents("pixels", "path", "id"),
)


@given(st.lists(damaged(frames.map(as_json)), max_size=3).map(b"\n".join))
@fuzzed
def test_frames_as_json(content: bytes) -> None:
    with only(InputError):
        assert_frames(from_json_lines(io.BytesIO(content), SHAPE))


@pytest.mark.parametrize(
    "line",
    [
        b'{"pixels": ' + b"[" * 60_000,
        b'{"pixels": [["' + b"x" * 10**6 + b'"' + b", 1" * 10**5 + b"]]}",
        b'{"pixels": [[' + b"9" * 400 + b"]]}",
        b'{"pixels": [[true, 1]]}',
        b'{"pixels": [[1], [2, 3]]}',
        b'{"path": "' + b"x" * 10**5 + b'"}',
        b'{"path": "a\\u0000"}',
        b'{"path": "\\ud800"}',
    ],
)
def test_frames_that_ask_for_much(line: bytes) -> None:
    with only(InputError):
        (answer,) = from_json_lines(io.BytesIO(line), SHAPE)
        assert isinstance(answer, Refused)


@given(st.binary(max_size=400))
@fuzzed
def test_raw_frames(content: bytes) -> None:
    with only(InputError):
        assert all(frame.pixels.shape == SHAPE for frame in from_raw(io.BytesIO(content), SHAPE))


def _text_files(*words: str) -> st.SearchStrategy[bytes]:
    odd = texts.map(lambda text: text.encode(errors="surrogatepass"))
    return st.one_of(damaged(documents(*words).map(as_json)), odd, st.binary(max_size=60))


def test_files_of_groups(file: Path) -> None:
    groups = st.lists(st.lists(st.one_of(st.sampled_from(CLASSES), st.integers(0, 3), scalars), max_size=3), max_size=3)

    @given(st.one_of(_text_files(*CLASSES), groups.map(as_json)))
    @fuzzed
    def check(content: bytes) -> None:
        file.write_bytes(content)
        with only(InputError):
            found = read_groups(file, CLASSES)
            assert sorted(label for group in found for label in group) == [0, 1, 2]

    check()


def test_files_of_spaces(file: Path) -> None:
    words = ("ratio", "method", "n_groups", "epochs", "loss", "choices", "low", "high", "log", "step", "when", "above")
    values = st.one_of(scalars, st.sampled_from(["random", "kmeans", "kd", 0.25, 0.5, 2, 3]))
    conditions = st.dictionaries(
        st.sampled_from(["epochs", "method", "ratio"]),
        st.one_of(values, st.fixed_dictionaries({"above": values})),
        max_size=2,
    )
    bounds = st.fixed_dictionaries(
        {"low": values, "high": values}, optional={"log": values, "step": values, "when": conditions}
    )
    choices = st.fixed_dictionaries({"choices": st.lists(values, max_size=3)}, optional={"when": conditions})
    entries = st.one_of(bounds, choices, st.lists(values, max_size=3))
    spaces = st.dictionaries(st.sampled_from(words[:5]), entries, min_size=1, max_size=3)

    @given(st.one_of(spaces.map(as_json), _text_files(*words)))
    @fuzzed
    def check(content: bytes) -> None:
        file.write_bytes(content)
        with only(InputError):
            space_of(TuneConfig(space=str(file)), classes=3)

    check()


@pytest.mark.parametrize("number", range(len(ODD_TEXTS)))
def test_odd_texts_as_files(file: Path, number: int) -> None:
    file.write_bytes(ODD_TEXTS[number].encode(errors="surrogatepass"))
    for read in (lambda: read_groups(file, CLASSES), lambda: space_of(TuneConfig(space=str(file)), classes=3)):
        with only(InputError):
            read()
            raise AssertionError("it is neither")
