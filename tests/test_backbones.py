"""Trunks: shapes, receptive fields, weights and their errors."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mlic_core.errors import InputError
from mlic_core.models import backbones
from mlic_core.models.backbones import build_trunk, register_trunk


@pytest.mark.parametrize("name", ["pictonet-s", "pictonet-m", "pictonet-l", "vgg16", "mobilenet_v2", "resnet50"])
def test_maps_have_the_declared_channels_and_stride(name):
    trunk = build_trunk(name).eval()
    with torch.inference_mode():
        maps = trunk(torch.zeros(1, 3, 64, 64))
    assert maps.shape == (1, trunk.out_channels, 64 // trunk.stride, 64 // trunk.stride)


def test_resnet101_has_the_papers_depth():
    trunk = build_trunk("resnet101")
    convolutions = [m for m in trunk.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    assert len(convolutions) == 1 + 3 + 4 + 23 + 3
    assert (trunk.out_channels, trunk.stride) == (2048, 32)


@pytest.mark.parametrize(("name", "field"), [("pictonet-s", 153), ("pictonet-m", 217), ("pictonet-l", 217)])
def test_receptive_field_is_wider_than_the_input_of_112(name, field):
    """Measured: the pixels whose change moves the central cell of a network of ones."""
    trunk = build_trunk(name)
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
    images = torch.ones(1, 3, 480, 480, dtype=torch.float64, requires_grad=True)
    maps = trunk.double().eval()(images)
    maps[0, 0, 15, 15].backward()
    touched = images.grad[0].abs().sum((0, 1)).nonzero()
    assert (touched.max() - touched.min() + 1).item() == field


@pytest.mark.parametrize("name", ["pictonet-s", "pictonet-m", "pictonet-l"])
def test_committed_weights_load_and_differ_from_random_ones(name):
    torch.manual_seed(0)
    pretrained, random = build_trunk(name, "pretrained"), build_trunk(name)
    assert not torch.equal(pretrained.features[0].weight, random.features[0].weight)
    again = build_trunk(name, backbones.pictonet_weights(name))
    assert all(
        torch.equal(a, b) for a, b in zip(pretrained.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_pictonet_is_short_for_the_middle_one():
    assert build_trunk("pictonet").out_channels == build_trunk("pictonet-m").out_channels == 160


def test_wrong_weights_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no file"):
        build_trunk("pictonet-s", tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(InputError, match="not a safetensors file"):
        build_trunk("pictonet-s", tmp_path / "text.safetensors")
    save_file(build_trunk("pictonet-m").state_dict(), tmp_path / "m.safetensors")
    with pytest.raises(InputError, match=r"does not fit pictonet-s") as caught:
        build_trunk("pictonet-s", tmp_path / "m.safetensors")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="there are none for pictonet-s"):
        build_trunk("pictonet-s", "imagenet")
    with pytest.raises(InputError, match="did you mean 'resnet50'"):
        build_trunk("resnet5")


def test_imagenet_weights_offline_are_an_error_with_a_remedy(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(InputError, match=r"ImageNet weights of mobilenet_v2 could not be downloaded .*safetensors"):
        build_trunk("mobilenet_v2", "imagenet")


@pytest.mark.parametrize("name", ["vgg16", "mobilenet_v2", "resnet50"])
def test_imagenet_weights_reach_the_layers_they_belong_to(name, monkeypatch):
    import torchvision

    torch.manual_seed(0)
    full = getattr(torchvision.models, name)(weights=None).eval()
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: full.state_dict())
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: full.state_dict())
    trunk = build_trunk(name, "imagenet").eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        if name == "resnet50":
            stages = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
            expected = images
            for stage in stages:
                expected = getattr(full, stage)(expected)
        else:
            expected = full.features[:30](images) if name == "vgg16" else full.features(images)
        torch.testing.assert_close(trunk(images), expected)


def test_a_users_trunk_is_built_by_name(monkeypatch):
    monkeypatch.setattr(backbones, "TRUNKS", dict(backbones.TRUNKS))
    register_trunk("mine", lambda: backbones.pictonet(8, (8, 8, 16)))
    assert build_trunk("mine", "pretrained").out_channels == 16
    with pytest.raises(InputError, match="taken"):
        register_trunk("resnet50", lambda: None)
