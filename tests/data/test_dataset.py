"""Data sets by name: sizes, splits, digests, the decoded copy, and the user's own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sensai.data.batches import Normalization
from sensai.data.checks import checked
from sensai.data.dataset import Dataset, load_dataset
from sensai.data.dataset_names import InputRule
from sensai.data.sources import Arrays, digest
from sensai.errors import InputError
from tests.conftest import ROOT
from tests.helpers import tiny_data

ANY = InputRule(None, None)
COLOUR_32 = InputRule(32, 3)
TINY = f"{ROOT}/tests/helpers/tiny_data.py"


def load(name: str, work_dir: Path, rule: InputRule = ANY, data_dir: str = "", **arguments: Any) -> Dataset:
    return load_dataset(name, data_dir, work_dir=work_dir, rule=rule, **arguments)


def parts(data: Dataset) -> list[set[int]]:
    assert data.val is not None
    return [set(data.train.rows.tolist()), set(data.val.rows.tolist())]


# -------------------------------------------------------------------------------------------------------------- digits


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    work_dir = tmp_path_factory.mktemp("work")
    return load("digits", work_dir), work_dir


def test_digits_have_their_sizes(digits: tuple[Dataset, Path]) -> None:
    data, _ = digits
    assert data.val is not None
    assert data.test is not None
    assert (len(data.train), len(data.val), len(data.test)) == (1293, 144, 360)
    assert data.class_names == tuple("0123456789")
    assert data.image_shape == (1, 8, 8)
    assert data.train.images.dtype == np.uint8
    assert data.train.all_labels.dtype == np.int64
    assert int(data.train.images.max()) == 255


def test_every_split_is_stratified(digits: tuple[Dataset, Path]) -> None:
    data, _ = digits
    assert data.val is not None
    assert data.test is not None
    whole = np.bincount(np.concatenate([data.train.labels, data.val.labels, data.test.labels]))
    assert whole.sum() == 1797
    for split, share in ((data.test, 0.2), (data.val, 0.08), (data.train, 0.72)):
        assert np.abs(np.bincount(split.labels) - share * whole).max() <= 2


def test_train_and_validation_share_the_array_but_no_image(digits: tuple[Dataset, Path]) -> None:
    data, _ = digits
    train, val = parts(data)
    assert not train & val
    assert train | val == set(range(1437))
    assert data.train.images is data.val.images


def test_the_split_follows_from_its_seed(digits: tuple[Dataset, Path]) -> None:
    data, work_dir = digits
    assert parts(load("digits", work_dir)) == parts(data)
    other = load("digits", work_dir, split_seed=1)
    assert parts(other) != parts(data)
    # The test split and the digest of the data do not depend on it.
    assert np.array_equal(other.test.images, data.test.images)
    assert other.digest == data.digest
    # Only the digest of the validation images depends on it.
    assert other.val_digest != data.val_digest
    assert load("digits", work_dir).val_digest == data.val_digest


def test_the_share_of_validation_can_be_chosen(digits: tuple[Dataset, Path]) -> None:
    _, work_dir = digits
    larger = load("digits", work_dir, val_fraction=0.25)
    assert (len(larger.train), len(larger.val)) == (1437 - 359, 359)


def test_mean_and_std_are_those_of_the_training_array(digits: tuple[Dataset, Path]) -> None:
    data, _ = digits
    pixels = np.asarray(data.train.images, np.float64) / 255
    assert data.mean == pytest.approx([pixels.mean()])
    assert data.std == pytest.approx([pixels.std()])


def test_the_arrays_are_mapped_not_read(digits: tuple[Dataset, Path]) -> None:
    data, _ = digits
    assert isinstance(data.train.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        data.train.images[0] = 0


def test_digits_fit_a_network_for_colour_images(digits: tuple[Dataset, Path]) -> None:
    data, work_dir = digits
    large = load("digits", work_dir, COLOUR_32)
    assert large.image_shape == (3, 32, 32)
    assert large.digest != data.digest
    image = large.train.images[0]
    assert np.array_equal(image[0], image[1])
    assert len(large.mean) == 3
    assert load("digits", work_dir, ANY, image_size=16).image_shape == (1, 16, 16)


# ------------------------------------------------------------------------------------------------------------- digests


def _arrays() -> Arrays:
    images = np.arange(2 * 1 * 3 * 3, dtype=np.uint8).reshape(2, 1, 3, 3)
    return Arrays(("a", "b"), {"train": (images, np.array([0, 1])), "test": (images + 1, np.array([1, 0]))})


def test_the_digest_changes_with_a_pixel_a_label_a_name_a_split() -> None:
    digests = {digest(_arrays())}
    for split in ("train", "test"):
        changed = _arrays()
        changed.splits[split][0][1, 0, 2, 2] ^= 1
        digests.add(digest(changed))
        changed = _arrays()
        changed.splits[split][1][0] ^= 1
        digests.add(digest(changed))
    plain = _arrays()
    digests.add(digest(Arrays(("a", "c"), plain.splits)))
    digests.add(digest(Arrays(("b", "a"), plain.splits)))
    digests.add(digest(Arrays(("ab", ""), plain.splits)))
    digests.add(digest(Arrays(plain.class_names, {"train": plain.splits["train"]})))
    digests.add(digest(Arrays(plain.class_names, {"train": plain.splits["test"], "test": plain.splits["train"]})))
    reshaped = {name: (images.reshape(2, 1, 1, 9), labels) for name, (images, labels) in plain.splits.items()}
    digests.add(digest(Arrays(plain.class_names, reshaped)))
    assert len(digests) == 11
    assert digest(_arrays()) in digests


def test_the_digest_does_not_hang_on_memory_layout_or_order_of_splits() -> None:
    plain = _arrays()
    other = {
        name: (np.asfortranarray(images), labels) for name, (images, labels) in reversed(list(plain.splits.items()))
    }
    assert digest(Arrays(plain.class_names, other)) == digest(plain)


# --------------------------------------------------------------------------------------------------------- user's own


def test_the_users_data_are_taken_as_they_are(tmp_path: Path) -> None:
    data = load(f"{TINY}:tiny", tmp_path)
    images, labels = tiny_data.tiny("")["train"]
    assert data.class_names == ("top", "middle", "bottom")
    assert np.array_equal(data.train.images[:, 0], images)
    assert np.array_equal(data.train.all_labels, labels)
    assert (len(data.train), len(data.val), len(data.test)) == (86, 10, 30)
    assert load(f"{TINY}:without_test", tmp_path).test is None


def user_file(tmp_path: Path, body: str) -> str:
    """Write a user's file with a function `make` of this body, which may use N images of 6x6 and labels."""
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "N = 40\n"
        "images = np.random.default_rng(0).integers(0, 256, (N, 6, 6), dtype=np.uint8)\n"
        "labels = np.arange(N) % 4\n"
        f"def make(data_dir):\n    {body}\n"
    )
    return f"{tmp_path}/mine.py:make"


def test_an_own_validation_split_is_used(tmp_path: Path) -> None:
    reference = user_file(tmp_path, "return {'train': (images, labels), 'val': (images[:8] // 2, labels[:8])}")
    data = load(reference, tmp_path / "work")
    assert (len(data.train), len(data.val), data.test) == (40, 8, None)
    assert data.class_names == ("0", "1", "2", "3")
    assert np.array_equal(data.val.images[data.val.rows][:, 0], data.train.images[:8, 0] // 2)


def test_colour_images_have_their_channels_last(tmp_path: Path) -> None:
    reference = user_file(tmp_path, "return {'train': (np.stack([images, images // 2, images // 4], -1), labels)}")
    data = load(reference, tmp_path / "work")
    assert data.image_shape == (3, 6, 6)
    assert np.array_equal(data.train.images[:, 1], data.train.images[:, 0] // 2)


def test_the_function_gets_data_dir_and_a_change_is_noticed(tmp_path: Path) -> None:
    reference = user_file(tmp_path, "return {'train': (np.full((N, 6, 6), len(data_dir), np.uint8), labels)}")
    short = load(reference, tmp_path / "work", data_dir="ab")
    longer = load(reference, tmp_path / "work", data_dir="abcd")
    assert int(short.train.images[0, 0, 0, 0]) == 2
    assert int(longer.train.images[0, 0, 0, 0]) == 4
    assert short.digest != longer.digest


def test_a_constant_channel_has_a_deviation_to_divide_by(tmp_path: Path) -> None:
    reference = user_file(tmp_path, "return {'train': (np.full((N, 6, 6), 51, np.uint8), labels)}")
    data = load(reference, tmp_path / "work")
    assert data.mean == pytest.approx([0.2])
    assert data.std == (1.0,)
    Normalization(data.mean, data.std)


@pytest.mark.parametrize(
    ("images", "labels", "why"),
    [
        ("images[:9]", "np.arange(9)", "class '0' and 8 more classes have one training image only"),
        ("images[:5]", "np.array([0, 0, 1, 1, 2])", "class '2' has one training image only"),
        ("images[:8]", "labels[:8]", "val_fraction=0.1 of 8 training images is 1, fewer than the 4 classes"),
    ],
    ids=["one image a class", "one class of one image", "held out would be fewer than classes"],
)
def test_where_some_class_cannot_spare_an_image_there_is_no_validation_and_this_is_said_once(
    tmp_path: Path, images: str, labels: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = load(user_file(tmp_path, f"return {{'train': ({images}, {labels})}}"), tmp_path / "work")
    assert data.val is None
    assert len(data.train) == len(data.train.images)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith(f"no validation split: {why}. ")
    assert "fitted on training images" in warning


def test_a_class_without_training_images_does_not_stand_in_the_way(tmp_path: Path) -> None:
    reference = user_file(tmp_path, "return {'train': (images, labels), 'classes': ['a', 'b', 'c', 'd', 'never']}")
    data = load(reference, tmp_path / "work")
    assert len(data.class_names) == 5
    assert data.val is not None
    assert set(data.val.labels.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return images, labels", "must return a mapping with 'train'"),
        ("return {'test': (images, labels)}", "must return a mapping with 'train'"),
        ("return {'train': (images / 255, labels)}", r"train must be images uint8 .* but got float64 \(40, 6, 6\)"),
        ("return {'train': (images, labels[:3])}", r"train must be images uint8 .*\b3\b"),
        ("return {'train': (images[:0], labels[:0])}", r"but got uint8 \(0, 6, 6\)"),
        ("return {'train': (images[0], labels[:6])}", r"but got uint8 \(6, 6\)"),
        ("return {'train': (images, labels), 'test': (images, labels[:3])}", "test must be images uint8"),
        (
            "return {'train': (images, labels), 'classes': ['a', 'b']}",
            "labels run from 0 to 3, but there are 2 classes",
        ),
        (
            "return {'train': (images, labels), 'classes': ['a', 'b', 'c', 'b']}",
            "two classes are called 'b'",
        ),
        ("return {'train': (images, labels * 0)}", "at least two classes, the one class is '0'"),
        ("return {'train': (images, labels * 0), 'classes': ['a']}", "at least two classes, the one class is 'a'"),
        ("return {'train': (images, labels - 1)}", "labels run from -1 to 2"),
        ("return {'train': (images, labels, None)}", "train must be"),
        ("return {'train': images}", "train must be"),
        ("return {'train': (images, np.eye(4, dtype=int)[labels])}", "train must be"),
        ("return {'train': (images, labels + 0.5)}", "train must be"),
        ("return {'train': None}", "must return a mapping with 'train'"),
        ("return {'train': (images, labels * 0)}", "must have at least two classes, the one class is '0'"),
        # Arrays may be ragged, and empty in any dimension.
        ("return {'train': ([[[1, 2]], [[1]]], [0, 1])}", "train must be a pair of arrays"),
        ("return {'train': (images, [[0], [1, 2]] * 20)}", "train must be a pair of arrays"),
        ("return {'train': ([], [])}", r"but got float64 \(0,\)"),
        ("return {'train': (images[:, :0], labels)}", r"but got uint8 \(40, 0, 6\)"),
        ("return {'train': (np.zeros((40, 6, 6, 0), np.uint8), labels)}", r"but got uint8 \(40, 6, 6, 0\)"),
        ("return {'train': (images, labels), 'val': (images[:0], labels[:0])}", "val must be images uint8"),
        ("return {'train': (images.astype(object), labels)}", "but got object"),
        ("return {'train': (np.array(7), np.array(7))}", r"but got int64 \(\)"),
        (
            "return {'train': (images, np.where(labels, labels, 10**10))}",
            "labels run from 1 to 10000000000, but there are 40",
        ),
        (
            "return {'train': (images, labels.astype('u8') + np.uint64(2**63))}",
            "labels run from 9223372036854775808 to",
        ),
        (
            "return {'train': (images, np.where(labels, labels, 255))}",
            "labels run from 1 to 255, but there are 40 images",
        ),
        ("return {'train': (images, labels), 'classes': 5}", "classes must be a list of names, not 5$"),
        ("return {'train': (images, labels), 'classes': None}", "classes must be a list of names, not None$"),
        ("return {'train': (images, labels), 'classes': 'abcd'}", "classes must be a list of names, not 'abcd'"),
        ("return {'train': (images, labels), 'classes': {'a', 'b', 'c', 'd'}}", "a list of names, not set"),
        (
            "return {'train': (images, labels), 'classes': {0: 'a', 1: 'b', 2: 'c', 3: 'd'}}",
            "a list of names, not dict",
        ),
        ("return {'train': (images, labels), 'classes': np.array('a')}", "a list of names, not ndarray"),
        ("return {'train': (images, labels), 'classes': ['a', 'b', 'c', None]}", "but one is None"),
        ("return {'train': (images, labels), 'classes': ['a', 'b', 'c', ['d']]}", "but one is list"),
        ("return {'train': (images, labels), 'classes': ['a', 'b', 'c', '\\ud800']}", r"a class is called '\\ud800'"),
        ("return {'train': (images, labels), 'classes': ['a', 'b', 'c', '']}", "a class is called ''"),
        ("return {'train': (images, labels), 'classes': ['a', 'b', 'c', 'd\\0']}", "a class is called"),
        ("return {'train': (images, labels), 'classes': [1, 2, 3, '1']}", "two classes are called '1'"),
        ("raise SystemExit(0)", r"the function failed \(it calls sys.exit\(0\)"),
        ("import sys; sys.exit('no licence')", "the function failed .*no licence"),
        ("raise MemoryError", "the function failed"),
        ("return {'train': (images, labels), 'test': (images[:, :5, :5], labels)}", "image_size"),
        ("return {'train': (images, labels), 'test': (np.stack([images] * 3, -1), labels)}", "channels"),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(user_file(tmp_path, body), tmp_path / "work")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "work").glob("data/*/manifest.json"))


def test_four_channels_do_not_fit_a_colour_network(tmp_path: Path) -> None:
    reference = user_file(tmp_path, "return {'train': (np.stack([images] * 4, -1), labels)}")
    with pytest.raises(InputError, match="its images have 4 channels, the network takes 3"):
        load(reference, tmp_path / "work", COLOUR_32)


@pytest.mark.parametrize("classes", ["('a', 'b', 'c', 'd')", "np.array(list('abcd'))", "dict.fromkeys('abcd').keys()"])
def test_class_names_may_come_in_any_order_that_is_kept(tmp_path: Path, classes: str) -> None:
    data = load(user_file(tmp_path, f"return {{'train': (images, labels), 'classes': {classes}}}"), tmp_path / "work")
    assert data.class_names == ("a", "b", "c", "d")


anything = st.recursive(
    st.none()
    | st.integers()
    | st.text(max_size=4)
    | st.binary(max_size=4)
    | st.floats()
    | npst.arrays(npst.scalar_dtypes(), npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=6,
)
array_splits = st.tuples(
    npst.arrays(np.uint8, npst.array_shapes(min_dims=3, max_dims=4, min_side=0, max_side=4)),
    npst.arrays(npst.integer_dtypes(), npst.array_shapes(max_dims=1, max_side=4)),
)


@settings(max_examples=200, deadline=None)
@given(
    anything
    | st.fixed_dictionaries(
        {"train": array_splits | anything},
        optional={"val": array_splits | anything, "test": array_splits | anything, "classes": anything},
    )
)
def test_whatever_a_function_gives_is_a_data_set_or_refused(result: object) -> None:
    try:
        class_names, splits = checked(result, "dataset='x'")
    except InputError as error:
        assert str(error).startswith("dataset='x': ")  # noqa: PT017  (it need not be raised)
    else:
        assert len(set(class_names)) == len(class_names) >= 2
        for images, labels in splits.values():
            assert images.dtype == np.uint8
            assert images.ndim == 4
            assert labels.dtype == np.int64
            assert len(labels) == len(images) > 0
            assert 0 <= labels.min() <= labels.max() < len(class_names)


def test_missing_files_and_functions_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        load(f"{tmp_path}/none.py:make", tmp_path)
    with pytest.raises(InputError, match="defines no function 'other'"):
        load(user_file(tmp_path, "pass").replace(":make", ":other"), tmp_path)


# -------------------------------------------------------------------------------------------------- the decoded copy


def test_a_copy_that_was_not_finished_is_made_again(tmp_path: Path) -> None:
    data = load(f"{TINY}:tiny", tmp_path)
    (manifest,) = (tmp_path / "data").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["digest"] == data.digest
    manifest.unlink()
    assert load(f"{TINY}:tiny", tmp_path).digest == data.digest
    assert manifest.exists()


def test_each_size_has_its_own_copy(tmp_path: Path) -> None:
    for rule, image_size in ((ANY, None), (ANY, 12), (COLOUR_32, None)):
        load(f"{TINY}:tiny", tmp_path, rule, image_size=image_size)
    assert len(list((tmp_path / "data").glob("*/manifest.json"))) == 3


# ----------------------------------------------------------------------------------------------------- the decoded copy


def test_what_a_killed_process_left_half_decoded_is_removed(tmp_path: Path) -> None:
    load("digits", tmp_path)
    (folder,) = (path for path in (tmp_path / "data").iterdir() if path.is_dir())
    left, other = folder.with_name(f".{folder.name}.abc"), folder.with_name(".another.abc")
    folder.rename(left)
    other.mkdir()
    load("digits", tmp_path)
    assert {path for path in (tmp_path / "data").iterdir() if path.is_dir()} == {folder, other}
