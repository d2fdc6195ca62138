"""Where a network looks that has no map of its own to show, CNN-RNN, and rivals that look nowhere.

CNN-RNN (§4.6) shows its attention by a deconvolutional network: at each step the mean, over the label nodes of the
softmax, of what each sends back into the image. Open are the nodes' weights in that mean, and what a fully connected
layer and a pooled trunk send back. Here a node counts by its probability at that step, and goes back to the image's
feature by its gradient. From there on in two ways. `step_evidence` stops at the trunk's last maps: a cell counts by how
much the node's score would rise, above the mean of all, if the image's feature moved towards the cell's. For a linear
classifier these are its class maps, less their mean; with pooled maps it is Grad-CAM (Selvaraju et al., 2017).
`step_pixels` goes on through the trunk to the image, by the rule of a deconvolutional network or its kin (`guided`).
"""

from copy import deepcopy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mlic_core.data.base import MultiLabelDataset
from mlic_core.guided import Rule, image_gradients
from mlic_core.images import prepare_images, read_batches
from mlic_core.models import localization
from mlic_core.models.backbones import MODEL_PREFIX
from mlic_core.models.cnn_rnn import CNNRNN
from mlic_core.models.pooling import global_pool
from mlic_core.models.proposals import windows
from mlic_core.training import default_device

BATCH = 100
BATCH_WITH_GRAPH = 20  # images whose pass through the trunk is kept for a pass back
CENTRE = (0.25, 0.25, 0.75, 0.75)  # half of each side: where every region of RDAR begins


@torch.inference_mode()
def trunk_maps(model: nn.Module, dataset: MultiLabelDataset) -> Float[Tensor, "images channels rows columns"]:
    """The trunk's maps of every image, on the CPU."""
    model = model.to(default_device()).eval()
    batches = read_batches(dataset, torch.arange(len(dataset)).split(BATCH))
    return torch.cat(
        [model.trunk(prepare_images(one.to(default_device()), model.trunk)).float().cpu() for one in batches]
    )


def tokens_of(model: CNNRNN, paths: Int[Tensor, "images length"]) -> Int[Tensor, "images steps"]:
    """What the model reads and writes along paths of labels, -1 after the last: the labels, then END, then -1."""
    padded = nn.functional.pad(paths, (0, 1), value=-1)
    ended = (padded >= 0).sum(1, keepdim=True)
    return padded.scatter(1, ended, model.num_classes)


def step_log_p(
    model: CNNRNN, features: Float[Tensor, "images channels"], tokens: Int[Tensor, "images steps"]
) -> Float[Tensor, "images steps scored"]:
    """log P of every label and END at each step of a path; -inf for labels already written and after the END."""
    scores = model.follow(features, tokens)
    written = nn.functional.one_hot(tokens.clamp(min=0), scores.shape[2]).cumsum(1) > 0
    before = nn.functional.pad(written, (0, 0, 1, 0))[:, :-1]
    log_p = scores.masked_fill(before, -torch.inf).log_softmax(2)
    return log_p.masked_fill((tokens < 0)[..., None], -torch.inf)


def feature_gradients(
    model: CNNRNN,
    features: Float[Tensor, "images channels"],
    tokens: Int[Tensor, "images steps"],
    weights: Float[Tensor, "sums images steps scored"],
) -> Float[Tensor, "sums images channels"]:
    """The derivative of weighted sums of the scores s(t) (Eq. 5) along a path with respect to the image's feature I.

    What was written before is given: I enters at Eq. 4 alone, once a step. Every score counts as what it is above the
    mean of all at its step: the softmax does not see what all have in common, and the gradient would.
    """
    weights = weights - weights.mean(-1, keepdim=True)
    with torch.enable_grad():
        image = features.detach().requires_grad_()
        scores = model.follow(image, tokens)
        return torch.stack([torch.autograd.grad(scores, image, one, retain_graph=True)[0] for one in weights])


def evidence(
    model: CNNRNN,
    maps: Float[Tensor, "images channels rows columns"],
    tokens: Int[Tensor, "images steps"],
    weights: Float[Tensor, "sums images steps scored"],
) -> Float[Tensor, "images sums rows columns"]:
    """Where in the trunk's maps the evidence lies for weighted sums of the scores s(t) (Eq. 5) along a path.

    The derivative of `feature_gradients` in the direction of each cell's features; what speaks against is 0.
    """
    gradients = feature_gradients(model, global_pool(maps, model.pooling), tokens, weights)
    return torch.einsum("sbd,bdhw->bshw", gradients, maps).relu()


def step_weights(
    model: CNNRNN, features: Float[Tensor, "images channels"], tokens: Int[Tensor, "images steps"]
) -> Float[Tensor, "steps images steps scored"]:
    """The mean over label nodes of Fig. 10, a sum for each step: labels by their probability there, END not at all."""
    with torch.no_grad():
        p = step_log_p(model, features, tokens).exp()
    p[..., -1] = 0  # END names no thing
    alone = torch.eye(tokens.shape[1], device=p.device, dtype=p.dtype)[:, None, :, None]  # one step, then the next
    return p * alone


def step_evidence(
    model: CNNRNN, maps: Float[Tensor, "images channels rows columns"], tokens: Int[Tensor, "images steps"]
) -> Float[Tensor, "images steps rows columns"]:
    """The attention of each step (Fig. 10) at the trunk's maps: the evidence by `step_weights`; 0 after the END."""
    return evidence(model, maps, tokens, step_weights(model, global_pool(maps, model.pooling), tokens))


def step_pixels(
    model: CNNRNN,
    images: Float[Tensor, "images 3 height width"],
    tokens: Int[Tensor, "images steps"],
    rule: Rule = "guided",
) -> Float[Tensor, "images steps 3 height width"]:
    """The attention of each step (Fig. 10) at the pixels of normalised images; 0 after the END.

    What `step_evidence` asks is asked of the same feature by the same derivative; `rule` is how the trunk sends that on
    from the feature to the pixels (`guided`). The ReLU of Eq. 4, in the head, is passed plainly by every rule.
    """

    def asked(features: Tensor) -> Tensor:
        return feature_gradients(model, features, tokens, step_weights(model, features, tokens))

    return image_gradients(model.features, images, asked, rule).transpose(0, 1)


def step_saliency(
    model: CNNRNN,
    dataset: MultiLabelDataset,
    tokens: Int[Tensor, "images steps"],
    index: Int[Tensor, " shown"],
    rule: Rule = "guided",
) -> Float[Tensor, "shown steps size size"]:
    """How much each pixel of the images `index` counts at each step, 0 or more, on the CPU.

    The sizes of `step_pixels`, added over the colours. tokens: of every image of the data set.
    """
    device, found, order = next(model.parameters()).device, [], index.split(BATCH_WITH_GRAPH)
    for rows, images in zip(order, read_batches(dataset, order), strict=True):
        images = prepare_images(images.to(device), model.trunk)
        found.append(step_pixels(model, images, tokens[rows].to(device), rule).abs().sum(2).cpu())
    return torch.cat(found)


def edges(dataset: MultiLabelDataset, index: Int[Tensor, " shown"]) -> Float[Tensor, "shown size size"]:
    """How much each pixel differs from its neighbours: what no network has to be asked for.

    Central differences of values in [0, 1] to the right and downwards, the sum of their sizes over the colours.
    """
    (images,) = read_batches(dataset, [index])
    return sum(one.abs() for one in torch.gradient(images.float() / 255, dim=(2, 3))).sum(1)


def shuffle_head(model: CNNRNN, seed: int = 0) -> CNNRNN:
    """A copy whose head has learnt nothing: each of its tensors has its own values in a random order.

    The trunk is as it was. The test of Adebayo et al. (NeurIPS 2018): a picture that stays the same without what the
    later layers have learnt does not show what they have learnt.
    """
    copy, generator = deepcopy(model), torch.Generator().manual_seed(seed)
    for name, values in copy.named_parameters():
        if not name.startswith(MODEL_PREFIX):
            order = torch.randperm(values.numel(), generator=generator).to(values.device)
            values.data = values.data.flatten()[order].view_as(values)
    return copy


def label_evidence(
    model: CNNRNN,
    maps: Float[Tensor, "pairs channels rows columns"],
    tokens: Int[Tensor, "pairs steps"],
    labels: Int[Tensor, " pairs"],
) -> Float[Tensor, "pairs rows columns"]:
    """The evidence for one label of each image, at the step of the path that gives it the highest probability."""
    with torch.no_grad():
        log_p = step_log_p(model, global_pool(maps, model.pooling), tokens)
    log_p = log_p.gather(2, labels[:, None, None].expand(-1, log_p.shape[1], 1))[..., 0]
    weights = log_p.new_zeros(*tokens.shape, model.num_classes + 1)
    weights[torch.arange(len(labels)), log_p.argmax(1), labels] = 1
    return evidence(model, maps, tokens, weights[None])[:, 0]


def boxes_of(maps: Float[Tensor, "*batch rows columns"], size: int, tau: float = 0.5) -> Float[Tensor, "*batch 4"]:
    """MCAR's box of each map, by the paper's rule on an image of `size` pixels, in [0, 1]."""
    boxes = localization.localize(maps.flatten(0, -3)[None], size, tau)[0]
    return (boxes / size).unflatten(0, maps.shape[:-2])


def blind_regions(images: int, size: int, count: int, seed: int = 0) -> dict[str, Float[Tensor, "{images} regions 4"]]:
    """Regions that look at nothing, by name, in [0, 1] of each image.

    The whole image; the box in its middle; MCAR's corner views; `count` boxes drawn by MCAR's law on `size` pixels;
    `count` of RDAR's windows drawn alike for all sizes and shapes; and all of those windows.
    """
    generator = torch.Generator().manual_seed(seed)
    every, pixels = windows(), (size, size)
    drawn = torch.rand(images, len(every), generator=generator).topk(count, 1).indices
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random = localization.random_boxes((images, count), pixels, torch.device("cpu")) / size
    fixed = {"whole image": torch.tensor([[0.0, 0.0, 1.0, 1.0]]), "centre box": torch.tensor([CENTRE])}
    fixed["corner views"] = localization.corners(pixels, torch.device("cpu")) / size
    found = {name: boxes.expand(images, -1, -1) for name, boxes in fixed.items()}
    found |= {"random boxes": random, "random windows": every[drawn]}
    return found | {"all windows": every.expand(images, -1, -1)}
