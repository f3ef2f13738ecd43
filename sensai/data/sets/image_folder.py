"""The user's folder of image files."""

from pathlib import Path
from typing import TYPE_CHECKING

from sensai.data.dataset_names import FOLDER
from sensai.data.sets import DATASETS

if TYPE_CHECKING:
    from sensai.data.sources import Source


@DATASETS.register(FOLDER, "image files in <data_dir>/<split>/<class>/")
def image_files(data_dir: str) -> "Source":
    """Return the images of `data_dir`.

    Raises:
        InputError: there is no such folder, or it holds no images in this form.
    """
    from sensai.data.folders import image_folder
    from sensai.errors import InputError

    if not data_dir:
        raise InputError(f"data_dir='': dataset={FOLDER} needs the folder that holds train/")
    return image_folder(Path(data_dir))
