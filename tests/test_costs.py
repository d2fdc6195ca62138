"""Multiply-adds, against a count by hand."""

from torch import nn

from mlic_core.costs import multiply_adds


def test_multiply_adds_of_a_convolution_and_a_linear_layer():
    convolution = nn.Conv2d(3, 8, 3, stride=2, padding=1)  # 8 x 8 places, 8 outputs, 27 products each
    model = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    assert multiply_adds(model, 16) == 8 * 8 * 8 * 27 + 8 * 5
