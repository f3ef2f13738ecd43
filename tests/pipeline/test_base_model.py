"""The base model that stages share."""

from dataclasses import replace

import torch

from sensai.data.batches import Normalization
from sensai.ensemble import Ensemble, Member
from sensai.pipeline.base_model import BaseModel
from tests.helpers.networks import make


def test_it_is_exported_once_for_all_ensembles_that_take_the_same_images() -> None:
    network, spec = make("small_cnn", seed=3)
    base = BaseModel(network.eval(), spec, torch.device("cpu"))
    normalization = Normalization((0.5,), (0.5,))
    names = tuple(str(number) for number in range(spec.num_classes))
    ensemble = Ensemble([Member(tuple(range(spec.num_classes)), network)], names, spec, normalization)
    other = Ensemble(ensemble.members, names, spec, replace(normalization, mean=(0.25,)))
    assert base.prepared(ensemble).members[0].onnx is base.prepared(ensemble).members[0].onnx
    assert base.prepared(other).normalization == other.normalization
