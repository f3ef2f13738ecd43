"""Every manifest and request, however broken, gives its answer or an error of one line."""

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException

from sensai.registry.bundle_reader import FORMAT_VERSION
from sensai.registry.pyfunc_model import Bundle
from sensai.serving.protocol import parse_images
from tests.fuzz.inputs import as_json, damaged, documents, fuzzed, only, scalars

MANIFEST = {
    "format_version": FORMAT_VERSION,
    "class_names": ["a", "b"],
    "dtype": "uint8",
    "layout": "NHWC",
    "image_shape": [2, 2, 1],
    "members": [{"classes": [0], "file": "member_000.onnx", "flops": 8, "sha256": "0" * 64}],
    "calibration": {"method": "temperature", "weight": [[1.0], [2.0]], "bias": [0.0, 1.0], "threshold": None},
}


def _bundle(folder: Path, content: bytes) -> Bundle:
    """Return the bundle of a manifest whose digest was rewritten with it."""
    (folder / "manifest.json").write_bytes(content)
    return Bundle(folder, hashlib.sha256(content).hexdigest())


@st.composite
def manifests(draw: st.DrawFn) -> bytes:
    """Generate the manifest with some other values."""
    manifest: dict[str, Any] = copy.deepcopy(MANIFEST)
    for _ in range(draw(st.integers(0, 2))):
        part = draw(st.sampled_from([manifest, manifest["calibration"], manifest["members"]]))
        if isinstance(part, list):
            part = draw(st.sampled_from(part))
        if isinstance(part, dict) and part:
            name = draw(st.sampled_from(list(part)))
            part[name] = draw(documents("raw", "file"))
            if not isinstance(manifest.get("calibration"), dict) or not isinstance(manifest.get("members"), list):
                break
            if not manifest["members"]:
                break
    return as_json(manifest)


def test_manifests(tmp_path: Path) -> None:
    @given(st.one_of(damaged(manifests()), manifests(), documents("format_version", "members").map(as_json)))
    @fuzzed
    def check(content: bytes) -> None:
        with only(ValueError):
            bundle = _bundle(tmp_path, content)
            assert len(bundle.image_shape) == 3
            # Its file is not there; nothing else may be wrong by now.
            for number in range(len(bundle.manifest["members"])):
                with pytest.raises((OSError, ValueError)):
                    bundle.open_member(number)

    check()


images = st.lists(
    st.lists(st.lists(st.lists(st.one_of(st.integers(-1, 256), scalars), max_size=2), max_size=2), max_size=2),
    max_size=2,
)
bodies = st.one_of(
    st.fixed_dictionaries({"inputs": images}),
    documents("inputs", "instances"),
    st.fixed_dictionaries({"instances": documents("inputs")}),
)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_bodies_of_requests(tmp_path: Path, dtype: str) -> None:
    bundle = _bundle(tmp_path, json.dumps({**MANIFEST, "dtype": dtype}).encode())

    @given(damaged(bodies.map(as_json)))
    @fuzzed
    def check(body: bytes) -> None:
        with only(MlflowException):
            assert bundle.checked(parse_images(body)).shape[1:] == (2, 2, 1)

    check()


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b'{"inputs": ' + b"[" * 60_000,
        b'{"inputs": ' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"inputs": [[[["' + b"x" * 10**6 + b'"], [1]], [[2], [3]]]' + b", [[[1], [1]], [[2], [3]]]" * 10**4 + b"]}",
        b'{"inputs": [[[[' + b"9" * 400 + b"], [0.5]], [[1], [1]]]]}",
        b'{"inputs": [[[[' + b"9" * 5000 + b"]]]]}",
    ],
)
def test_bodies_that_ask_for_much(tmp_path: Path, body: bytes) -> None:
    bundle = _bundle(tmp_path, json.dumps(MANIFEST).encode())
    with only(MlflowException):
        bundle.checked(parse_images(body))
        raise AssertionError("it holds no images")
