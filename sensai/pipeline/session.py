"""Share the store, data sets, base models and earlier results among the stages of a process; load each when first needed."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sensai.config import StageConfig
from sensai.data.dataset import Dataset, PreparedDataset, prepare_dataset
from sensai.data.dataset_names import FOLDER, InputRule
from sensai.models.architecture_names import input_rule, is_own
from sensai.terminal import waiting
from sensai.tracking import Store

if TYPE_CHECKING:
    import torch

    from sensai.pipeline.base_model import BaseModel

T = TypeVar("T")


@dataclass(frozen=True)
class Session:
    """The store and the loaded things that the stages of one process share.

    Finished runs and data sets do not change, so each is loaded once.

    Attributes:
        store: where runs are looked for and made.
    """

    store: Store
    _loaded: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def connect(cls) -> "Session":
        """Open a session on the store that MLflow is set to.

        Raises:
            InputError: see `Store.connect`.
        """
        return cls(Store.connect())

    def labelled(self, labels: Mapping[str, str]) -> "Session":
        """Return the same session, whose new runs get these tags too."""
        return replace(self, store=self.store.labelled(labels))

    def dataset(self, config: StageConfig) -> Dataset:
        """Return the data set that the parameters name.

        Raises:
            InputError: see `load_dataset`.
        """
        key = ("dataset", *_place(config), config.val_fraction, config.split_seed)
        return self._once(key, lambda: self._prepared(config).split(config.val_fraction, config.split_seed))

    def data_digest(self, config: StageConfig) -> str:
        """Return the digest of the data set that the parameters name.

        Raises:
            InputError: see `load_dataset`.
        """
        return self._prepared(config).digest

    def _prepared(self, config: StageConfig) -> PreparedDataset:
        def prepare() -> PreparedDataset:
            with waiting(f"reads the data set {config.dataset}, and decodes it where it is new"):
                return _prepared_of(config)

        return self._once(_place(config), prepare)

    def base_model(self, run_id: str, device: "torch.device") -> "BaseModel":
        """Return the base model of a run of `baseline` on a device."""
        from sensai.pipeline.base_model import BaseModel, load_base_model

        def load() -> BaseModel:
            network, spec = load_base_model(self.store, run_id)
            return BaseModel(network.to(device), spec, device)

        return self._once((run_id, device), load)

    def read(self, load: Callable[[Store, str], T], run_id: str) -> T:
        """Load an object from a finished run by a function. All readers share it, so none may change it."""
        return self._once((load, run_id), lambda: load(self.store, run_id))

    def is_first(self, what: str) -> bool:
        """Return True at the first call with a text in this session, for lines that are said once."""
        if what in self._loaded:
            return False
        self._loaded[what] = True
        return True

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._loaded:
            self._loaded[key] = make()
        return self._loaded[key]


def dataset_of(config: StageConfig) -> Dataset:
    """Load the data set that the parameters name; a stage gets it from its session instead.

    Raises:
        InputError: see `load_dataset`.
    """
    return _prepared_of(config).split(config.val_fraction, config.split_seed)


def _place(config: StageConfig) -> tuple[Hashable, ...]:
    """Return what decides the prepared copy of a data set."""
    return (
        *(config.dataset, config.data_dir, config.work_dir, config.arch, config.arch_args),
        config.image_size,
    )


def _prepared_of(config: StageConfig) -> PreparedDataset:
    return prepare_dataset(
        config.dataset,
        config.data_dir,
        work_dir=Path(config.work_dir),
        rule=_rule(config),
        image_size=config.image_size,
    )


def _rule(config: StageConfig) -> InputRule:
    """Return the input that the network takes; a network of the user's may take a folder's images as grey ones."""
    rule = input_rule(config.arch)
    if config.dataset != FOLDER or not is_own(config.arch):
        return rule
    from sensai.models.channels import takes_grey_alone

    return rule._replace(channels=1) if takes_grey_alone(config.arch, config.arch_args.values) else rule
