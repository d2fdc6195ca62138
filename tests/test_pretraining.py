"""PictoNet's pretraining, at its smallest."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mlic_core.data.glyphs import pretraining_codes, pretraining_pictures
from mlic_core.errors import InputError
from mlic_core.models import build_trunk
from mlic_core.pretraining import pretrain


def test_weights_are_written_in_half_precision_and_load(tmp_path):
    torch.manual_seed(5)
    accuracy = pretrain("pictonet-s", pictures=32, epochs=1, batch_size=16, out=tmp_path / "weights.safetensors")
    assert 0 <= accuracy < 0.2
    stored = load_file(tmp_path / "weights.safetensors")
    assert {v.dtype for v in stored.values() if v.is_floating_point()} == {torch.float16}
    trunk = build_trunk("pictonet-s", tmp_path / "weights.safetensors")
    assert all(torch.equal(v.float(), stored[k].float()) for k, v in trunk.state_dict().items())


def test_pictures_are_a_function_of_the_seed():
    first, again, other = (pretraining_pictures(6, seed, side=48) for seed in (1, 1, 2))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert first[0].shape == (6, 3, 48, 48) and (first[1] < len(pretraining_codes())).all()


def test_only_a_pictonet_is_pretrained_here(tmp_path):
    with pytest.raises(InputError, match="only a PictoNet"):
        pretrain("resnet50", out=tmp_path / "weights.safetensors")
