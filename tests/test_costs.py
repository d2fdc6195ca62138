"""Costs: counts by hand, stages against the forward pass, and what times are made of."""

import time

import numpy as np
import pytest
import torch
from torch import nn

from mlic_core import costs
from mlic_core.errors import InputError
from mlic_core.models import build_model, build_trunk
from mlic_core.models.backbones import Trunk

CPU = torch.device("cpu")


def cells(channels=8):
    """A trunk of one layer: 16 x 16 pixels give a cell."""
    return Trunk(nn.Conv2d(3, channels, 16, 16), channels, 16)


def on_cells(method, classes=5, **options):
    torch.manual_seed(0)
    return build_model(method, classes, cells(), **options).eval()


def test_counts_of_a_baseline_worked_out_by_hand():
    found = costs.counts(on_cells("classifier"), costs.noise(3, 32))
    trunk, head = 8 * (3 * 16 * 16 + 1), 5 * (8 + 1)  # weights and biases
    assert found == (trunk, head, 1.0, 4 * 8 * 3 * 16 * 16, 8 * 5)  # 2 x 2 cells; 8 pooled channels to 5 classes


def test_mcar_passes_the_image_and_each_region_and_scores_every_cell_for_its_maps():
    found = costs.counts(on_cells("mcar", topN=2), costs.noise(3, 32))
    assert found.passes == 3 and found.trunk_macs == 3 * 4 * 8 * 768
    heads = 3 * 8 * 5 + 4 * 8 * 5  # three passes, and the class maps of four cells
    across, down = 4 * 2 * 2 + 4 * 2 * 32, 32 * 2 * 2 + 32 * 2 * 4  # 4 lines beside cells of 2 x 2, over 32 pixels
    assert found.head_macs == heads + 2 * (across + down)


def test_ten_views_of_rdar_share_one_pass_through_the_trunk():
    model = on_cells("rdar", K=2, hidden=4, crop=0.5)
    one, ten = (costs.counts(costs.variant(model, views=views), costs.noise(2, 64)) for views in ("whole", "ten"))
    assert (one.passes, ten.passes) == (1, 1)
    assert one.trunk_macs == ten.trunk_macs == 16 * 8 * 768
    # Three looks of x (8 to 4), gates (2 x 4 to 16) and z (4 to 4); the class (4 to 5) and the next place (4 to 4).
    assert one.head_macs == 3 * (8 * 4 + 2 * 4 * 16 + 4 * 4 + 4 * 4) + 2 * 4 * 5
    assert ten.head_macs == 10 * one.head_macs


def test_a_variant_shares_weights_and_leaves_the_model_as_it_was():
    model = on_cells("mcar")
    other = costs.variant(model, topN=1)
    assert (model.topN, other.topN) == (4, 1) and other.head.linear.weight is model.head.linear.weight
    with pytest.raises(InputError, match="MCAR has no attribute 'topn' to vary"):
        costs.variant(model, topn=1)


def test_untrained_models_and_noise_are_the_same_each_time():
    one, other = (costs.untrained("gla", "pictonet-s", 5, T=2) for _ in range(2))
    assert not one.training and one.T == 2
    assert all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))
    assert next(one.parameters()).is_contiguous(memory_format=torch.channels_last)
    images = costs.noise(4, 32)
    assert images.shape == (4, 3, 32, 32) and torch.equal(images, costs.noise(4, 32))
    assert images.is_contiguous(memory_format=torch.channels_last) and 0.9 < images.std() < 1.1


def test_peak_bytes_counts_what_lives_at_once_and_no_view_twice():
    def work():
        first = torch.ones(1000)  # 4,000 bytes
        second = first.view(10, 100) + 1  # 8,000
        del first
        third = second.double()  # 4,000 + 8,000: the peak
        del second, third
        return torch.ones(10)

    assert costs.peak_bytes(work) == 12_000


def test_what_was_made_before_does_not_count():
    given = torch.ones(1000)
    assert costs.peak_bytes(lambda: given.mul_(2).view(10, 100)) == 0


def test_a_forward_pass_keeps_nothing_for_a_backward_one():
    model = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(5)))
    images = torch.ones(2, 3, 8, 8)
    assert costs.forward_bytes(model, images) == 2 * images.nbytes  # a layer's input and output, no earlier ones
    assert costs.peak_bytes(lambda: model(images)) == 5 * images.nbytes


@pytest.mark.parametrize("options", [{}, {"selection": "corners"}, {"topN": 1, "pooling": "gmp"}], ids=str)
def test_the_stages_are_the_forward_pass(options):
    model, images = costs.untrained("mcar", "pictonet-s", 6, **options), costs.noise(2, 64)
    model.head.linear.weight.data.mul_(200)  # far from where a sigmoid is a straight line
    with torch.inference_mode():
        found, whole = dict(costs.stages(model, images)), model(images)
        local = model.head(model.trunk(found["global-to-local"].flatten(0, 1))).unflatten(0, (2, -1)).amax(1)
    assert list(found) == ["global", "global-to-local", "local"]
    assert torch.equal(found["global"], whole.steps[:, 0])
    assert torch.equal(local, whole.steps[:, 1])
    assert torch.equal(found["local"], whole.logits)


@pytest.mark.parametrize("options", [{"topN": 0}, {"adaptive": 0.5}, {"crop_from": "source"}], ids=str)
def test_a_model_without_the_three_stages_is_refused(options):
    with pytest.raises(InputError, match="need topN of 1 or more, adaptive=0 and crop_from=input"):
        next(costs.stages(on_cells("mcar", **options), costs.noise(1, 32)))


def test_bytes_of_the_stages_worked_out_by_hand():
    model, images = on_cells("mcar", topN=2), costs.noise(1, 32)
    found = costs.stage_bytes(model, images)
    assert found["global"] < 1000 < found["global-to-local"]
    crops = 4 * 2 * 3 * 32 * 32
    assert found["global-to-local"] > crops  # what is cut out, and where from
    assert crops < found["local"] < 1.2 * crops  # the regions are still there, their maps are small
    with torch.no_grad():
        assert max(found.values()) == pytest.approx(costs.peak_bytes(lambda: model(images)), rel=0.01)


def test_times_of_the_stages_add_up_and_lie_in_their_order(monkeypatch):
    ticks = iter([10.0, 11.0, 13.0, 17.0])
    monkeypatch.setattr(costs, "clock", lambda device: next(ticks))
    found = costs.stage_seconds(on_cells("mcar"), costs.noise(1, 32))
    assert found == {"global": 1.0, "global-to-local": 2.0, "local": 4.0, "total": 7.0}


def test_calls_are_timed_one_by_one_in_turn(monkeypatch):
    ticks, order = iter([0.0, 2.0, 5.0, 9.0]), []
    monkeypatch.setattr(costs, "clock", lambda device: next(ticks))
    found = costs.in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, CPU)
    assert found == {"a": 2.0, "b": 4.0} and order == ["a", "b"]


def test_the_clock_of_the_cpu_counts_work_and_not_waiting():
    begun = costs.clock(CPU)
    time.sleep(0.2)
    assert costs.clock(CPU) - begun < 0.1
    while costs.clock(CPU) - begun < 0.01:
        sum(range(1000))


def test_a_first_round_does_not_count_and_all_run_on_one_thread_without_gradients():
    torch.set_num_threads(2)
    seen = []

    def probe():
        seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled()))
        return {"a": float(len(seen)), "b": 10.0 * len(seen)}

    try:
        found = costs.repeated(probe, 3)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert seen == [(1, True)] * 4
    assert found["a"].tolist() == [2, 3, 4] and found["b"].tolist() == [20, 30, 40]
    with pytest.raises(InputError, match="rounds=0: choose 1 or more"):
        costs.repeated(probe, 0)


def test_ratios_are_taken_round_by_round():
    times = {"base": np.array([1.0, 2.0, 10.0]), "other": np.array([3.0, 2.0, 20.0])}
    found = costs.against(times, "base")
    assert found["base"] == (2.0, 1.0, 1.0, 1.0)
    assert found["other"] == (3.0, 2.0, 1.0, 3.0)  # not 3 / 2, the ratio of the medians


def test_growth_is_relative_to_the_first_setting(monkeypatch):
    # Start and end of each call: two in the first round, which doesn't count, and two in each of the others.
    ticks = iter(np.cumsum([0.0, 1, 0, 3, 0, 2, 0, 8, 0, 2, 0, 8]).tolist())
    monkeypatch.setattr(costs, "clock", lambda device: next(ticks))
    model = nn.Conv2d(3, 4, 1)
    small, large = costs.growth({16: (model, torch.ones(1, 3, 16, 16)), 32: (model, torch.ones(1, 3, 32, 32))}, 2)
    assert small == (16, 2.0, 4 * 4 * 256, 1.0, 1.0)
    assert large == (32, 8.0, 4 * 4 * 1024, 4.0, 4.0)


@pytest.mark.parametrize(("share", "looked"), [(0.0, 0), (0.25, 2), (0.7, 6), (1.0, 8)])
def test_the_threshold_leaves_the_wanted_share_of_regions(share, looked):
    model, images = costs.untrained("mcar", "pictonet-s", 6, topN=4), costs.noise(2, 64)
    threshold = costs.threshold_for(model, images, share)
    passes = costs.counts(costs.variant(model, adaptive=threshold), images).passes
    assert passes == 1 + looked / 2
    assert (threshold == 0) == (share == 1)  # with all of them it's the usual forward pass


def test_devices_and_machines_are_named():
    found = costs.devices()
    assert [one.type for one in found] == ["cpu", "cuda"][: 1 + torch.cuda.is_available()]
    assert costs.machine(CPU).startswith("one CPU thread (") and torch.__version__ in costs.machine(CPU)


def test_a_known_trunk_has_the_multiply_adds_that_are_printed_for_it():
    """MobileNet-v2 at 224 pixels: .301 billion, 3,504,872 parameters with its classifier (torchvision's model card)."""
    found = costs.counts(build_model("classifier", 1000, build_trunk("mobilenet_v2")).eval(), costs.noise(1, 224))
    assert found.trunk_macs + found.head_macs == pytest.approx(0.301e9, rel=0.002)
    assert found.trunk_parameters + found.head_parameters == 3_504_872
