"""What in the pixels a network's answer rests on: gradients that pass its ReLUs by one of three rules.

Plain backpropagation sends a gradient back through a ReLU where its input was positive. The deconvolutional network
(Zeiler & Fergus, ECCV 2014) asks instead that the gradient itself is positive, and guided backpropagation (Springenberg
et al., ICLR workshop 2015, Fig. 1) asks for both. The rest is backpropagation in all three, max pooling with the places
of its maxima among it. Only for a plain one is the result a derivative.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mlic_core.errors import check_choice

Rule = Literal["guided", "deconvnet", "plain"]
# What a ReLU sends back, from what plain backpropagation would send and from what arrives at its output.
RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "guided": lambda plain, arriving: plain.clamp(min=0),
    "deconvnet": lambda plain, arriving: arriving.clamp(min=0),
    "plain": lambda plain, arriving: plain,
}


def image_gradients(
    network: Callable[[Tensor], Tensor],
    images: Float[Tensor, "batch channels height width"],
    weigh: Callable[[Tensor], Tensor],
    rule: Rule = "guided",
) -> Float[Tensor, "sums batch channels height width"]:
    """Gradients of weighted sums of `network(images)` with respect to the images.

    One pass forward, and one back for each sum. weigh: from the network's answer (batch, ...) to the weights
    (sums, batch, ...) of its numbers. Images must not see each other in the network, so BatchNorm belongs in evaluation
    mode.

    The rule acts at every ReLU and ReLU6 between the images and the answer, layers or functions, in place or not; other
    activations are passed plainly. It is hooked into the graph of this one pass, not into layers: network and images
    stay as they are. Raises InputError for another rule.
    """
    check_choice("rule", rule, Rule)
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as hooks:
        pixels = images.detach().clone().requires_grad_()
        answer = network(pixels.clone())  # a first layer in place may not change a leaf
        for node in _relus(answer):
            hooks.callback(node.register_hook(_hook(rule)).remove)
        weights = weigh(answer.detach())
        found = [torch.autograd.grad(answer, pixels, one, retain_graph=True)[0] for one in weights]
        return torch.stack(found)


def _hook(rule: Rule) -> Callable:
    return lambda sent, arriving: (RULES[rule](sent[0], arriving[0]),)


def _relus(answer: Tensor) -> Iterator[torch.autograd.graph.Node]:
    """The nodes of the answer's graph that are a ReLU, or one with a bound above such as ReLU6."""
    seen, todo = set(), [answer.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        todo += [before for before, _ in node.next_functions]
        if node.name() == "ReluBackward0" or getattr(node, "_saved_min_val", None) == 0:
            yield node
