"""PictoNet's pretraining, its ImageNet: classify 400 pictograms that are in neither embedded data set."""

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from mlic_core.data.glyphs import pretraining_codes, pretraining_pictures
from mlic_core.errors import InputError
from mlic_core.models.backbones import ALIASES, build_trunk, pictonet_weights
from mlic_core.progress import say, track


def pretrain(
    name: str,
    *,
    pictures: int = 24_000,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 0.1,
    seed: int = 0,
    out: Path | None = None,
) -> float:
    """Train the trunk `name` on `pictures` drawn pictograms and write its weights as fp16 safetensors.

    SGD with momentum 0.9, one-cycle learning rate up to `lr`, weight decay 5e-4, flips, label smoothing 0.1, bf16.
    Returns the accuracy (0 to 1) on as many other pictures of the same pictograms, at most 2,000.
    Raises InputError for another trunk.
    """
    name = ALIASES.get(name, name)
    if not name.startswith("pictonet-"):
        raise InputError(f"{name}: only a PictoNet is pretrained here; choose pictonet-s, pictonet-m or pictonet-l")
    torch.manual_seed(seed)
    images, labels = (torch.from_numpy(array) for array in pretraining_pictures(pictures, seed))
    trunk = build_trunk(name).to(memory_format=torch.channels_last)
    head = nn.Linear(trunk.out_channels, len(pretraining_codes()))
    model = nn.Sequential(trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * math.ceil(pictures / batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    for epoch in range(epochs):
        total = 0.0
        for index in track(torch.randperm(pictures).split(batch_size), label=f"{name} {epoch + 1}/{epochs}"):
            batch = _normalise(images[index], trunk)
            flip = torch.rand(len(index)) < 0.5
            batch = torch.where(flip[:, None, None, None], batch.flip(3), batch)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(batch)
            loss = nn.functional.cross_entropy(logits.float(), labels[index], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(index)
        say(f"{name}: epoch {epoch + 1}, loss {total / pictures:.3f}")
    out = out or pictonet_weights(name)
    out.parent.mkdir(parents=True, exist_ok=True)
    state = trunk.state_dict()
    save_file({k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}, out)
    return _accuracy(model.eval(), trunk, min(pictures, 2_000), seed + 1)


def _normalise(images, trunk):
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (trunk.mean, trunk.std))
    return ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def _accuracy(model: nn.Module, trunk: nn.Module, count: int, seed: int) -> float:
    images, labels = (torch.from_numpy(array) for array in pretraining_pictures(count, seed))
    predicted = torch.cat([model(_normalise(part, trunk)).argmax(1) for part in images.split(250)])
    return (predicted == labels).double().mean().item()
