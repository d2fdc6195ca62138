"""PictoCOCO: 68 of COCO's 80 classes drawn with pictograms, written to disk as COCO is, with an instances file a split.

Its scenes are of a kind (a street, a laid table, a tennis court), and each kind has classes that nearly always come
together, so that one label tells of others; some objects are too small to be named without such company. Some kinds
are far more frequent than others, as COCO's classes are. Every annotated object is in view: where one is hidden the
places are drawn again, since COCO has no mark for difficult objects.

These twelve classes have no pictogram of their own, and no category: fire hydrant, parking meter, bench, snowboard,
baseball glove, surfboard, microwave, oven, toaster, refrigerator, remote, hair drier. (A snowboard and a surfboard
there are only with a rider, who would be a person without the label.) Two others show something that has no label: the
baseball bat a little ball, the sink a glass.

The same `PictoCocoSpec` gives the same labels and boxes everywhere, and the same bytes under the versions of
`constraints.txt`.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mlic_core.data import scenes
from mlic_core.data.scenes import SPLITS, Box, Object, Scene
from mlic_core.errors import InputError

VERSION = 1  # part of every digest: raise it when the same specification would draw other scenes
LEAST = 8.0  # pixels: no object is drawn shorter, so that the thinnest still has a box

# Of each class, COCO's number for it and the code points of its pictograms. "1F37D/1" is the plate without the fork and
# the knife beside it, which are classes of their own.
_GLYPHS = {
    "person": (1, "1F9CD 1F6B6 1F9D1 1F469 1F468 1F3C3"),
    "bicycle": (2, "1F6B2"),
    "car": (3, "1F697 1F698 1F699 1F695"),
    "motorcycle": (4, "1F3CD 1F6F5"),
    "airplane": (5, "2708 1F6E9 1F6EB 1F6EC"),
    "bus": (6, "1F68C 1F68D"),
    "train": (7, "1F686 1F682 1F684 1F687"),
    "truck": (8, "1F69A 1F69B 1F6FB"),
    "boat": (9, "26F5 1F6A4 1F6A2 1F6E5"),
    "traffic light": (10, "1F6A6 1F6A5"),
    "stop sign": (13, "1F6D1"),
    "bird": (16, "1F426 1F986 1F985 1F54A 1F99C"),
    "cat": (17, "1F408 1F431"),
    "dog": (18, "1F415 1F436 1F429 1F9AE"),
    "horse": (19, "1F40E 1F434"),
    "sheep": (20, "1F411 1F40F"),
    "cow": (21, "1F404 1F42E"),
    "elephant": (22, "1F418"),
    "bear": (23, "1F43B"),
    "zebra": (24, "1F993"),
    "giraffe": (25, "1F992"),
    "backpack": (27, "1F392"),
    "umbrella": (28, "2602 2614 1F302"),
    "handbag": (31, "1F45C 1F45B"),
    "tie": (32, "1F454"),
    "suitcase": (33, "1F9F3"),
    "frisbee": (34, "1F94F"),
    "skis": (35, "1F3BF"),
    "sports ball": (37, "26BD 1F3C0 1F3D0 26BE 1F3BE 1F94E"),
    "kite": (38, "1FA81"),
    "baseball bat": (39, "1F3CF"),
    "skateboard": (41, "1F6F9"),
    "tennis racket": (43, "1F3F8/0"),
    "bottle": (44, "1F37E 1F37C 1F9F4"),
    "wine glass": (46, "1F377 1F942"),
    "cup": (47, "2615 1F964"),
    "fork": (48, "1F374/1 1F37D/0"),
    "knife": (49, "1F374/0 1F37D/2 1F52A"),
    "spoon": (50, "1F944"),
    "bowl": (51, "1F35C"),
    "banana": (52, "1F34C"),
    "apple": (53, "1F34E 1F34F"),
    "sandwich": (54, "1F96A"),
    "orange": (55, "1F34A"),
    "broccoli": (56, "1F966"),
    "carrot": (57, "1F955"),
    "hot dog": (58, "1F32D"),
    "pizza": (59, "1F355"),
    "donut": (60, "1F369"),
    "cake": (61, "1F382 1F370"),
    "chair": (62, "1FA91 1F4BA"),
    "couch": (63, "1F6CB"),
    "potted plant": (64, "1FAB4 1F331"),
    "bed": (65, "1F6CF"),
    "dining table": (67, "1F37D/1"),
    "toilet": (70, "1F6BD"),
    "tv": (72, "1F4FA 1F5A5"),
    "laptop": (73, "1F4BB"),
    "mouse": (74, "1F5B1"),
    "keyboard": (76, "2328"),
    "cell phone": (77, "1F4F1"),
    "sink": (81, "1F6B0"),
    "book": (84, "1F4D6 1F4D5 1F4D7 1F4D8 1F4D9"),
    "clock": (85, "23F0 1F570"),
    "vase": (86, "1F3FA"),
    "scissors": (87, "2702"),
    "teddy bear": (88, "1F9F8"),
    "toothbrush": (90, "1FAA5"),
}
CATEGORIES = {name: number for name, (number, _) in _GLYPHS.items()}
GLYPHS = {name: codes for name, (_, codes) in _GLYPHS.items()}
CLASSES = tuple(GLYPHS)

# Classes whose objects are small things, and often tiny in the picture.
SMALL = frozenset({
    "sports ball", "frisbee", "mouse", "cell phone", "tie", "bottle", "wine glass", "cup", "fork", "knife", "spoon",
    "toothbrush", "traffic light", "clock",
})  # fmt: skip

# Kinds of scenes: how often one is drawn, in relation to the others, and how likely each class is in it, in percent.
# A scene in which none falls shows the first.
CONTEXTS: dict[str, tuple[float, dict[str, int]]] = {
    "street": (17, {"car": 85, "person": 80, "traffic light": 55, "truck": 35, "bus": 30, "bicycle": 15,
                    "handbag": 15, "stop sign": 14, "backpack": 12}),
    "motorcycles": (4, {"motorcycle": 95, "person": 85, "car": 40, "bicycle": 25, "backpack": 15}),
    "cycling": (3, {"bicycle": 95, "person": 90, "backpack": 40, "car": 30, "dog": 15}),
    "station": (5, {"train": 95, "person": 65, "suitcase": 35, "clock": 30, "backpack": 25, "handbag": 20}),
    "airport": (4, {"airplane": 95, "truck": 40, "person": 35, "suitcase": 35, "car": 20}),
    "harbour": (4, {"boat": 95, "person": 45, "bird": 40, "car": 15, "umbrella": 10}),
    "rain": (3, {"umbrella": 95, "person": 90, "handbag": 50, "car": 30, "backpack": 20}),
    "reception": (3, {"tie": 95, "person": 95, "wine glass": 35, "cell phone": 30}),
    "tennis": (6, {"tennis racket": 95, "person": 95, "sports ball": 90, "chair": 15}),
    "baseball": (5, {"baseball bat": 95, "person": 95, "sports ball": 80}),
    "football": (4, {"sports ball": 95, "person": 95, "backpack": 10}),
    "skiing": (4, {"skis": 95, "person": 95, "backpack": 45}),
    "skating": (3, {"skateboard": 95, "person": 95, "backpack": 20, "bicycle": 15}),
    "frisbee": (3, {"frisbee": 95, "person": 85, "dog": 60}),
    "kites": (3, {"kite": 95, "person": 90, "boat": 15, "umbrella": 15, "bird": 15}),
    "savanna": (5, {"giraffe": 60, "zebra": 60, "elephant": 45, "bird": 30}),
    "elephant ride": (1.5, {"elephant": 95, "person": 85}),
    "bears": (2.2, {"bear": 95, "bird": 30}),
    "farm": (5, {"cow": 60, "sheep": 60, "horse": 50, "person": 40, "dog": 35, "bird": 25}),
    "riding": (3, {"horse": 95, "person": 95, "dog": 20}),
    "desk": (7, {"keyboard": 85, "mouse": 85, "laptop": 70, "tv": 50, "cup": 35, "book": 35, "cell phone": 30,
                 "chair": 30, "person": 25}),
    "living room": (7, {"couch": 85, "tv": 65, "chair": 50, "potted plant": 45, "book": 40, "person": 35, "vase": 25,
                        "clock": 20, "cat": 20, "dog": 15}),
    "bedroom": (4, {"bed": 95, "teddy bear": 40, "book": 40, "cat": 30, "clock": 25, "person": 20, "laptop": 20}),
    "bathroom": (4, {"toilet": 80, "sink": 80, "toothbrush": 45, "bottle": 35, "cup": 25}),
    "meal": (8, {"dining table": 95, "fork": 80, "knife": 75, "spoon": 55, "bowl": 50, "cup": 50, "chair": 35,
                 "person": 35, "bottle": 30, "wine glass": 30}),
    "pizza": (3, {"pizza": 95, "dining table": 80, "person": 40, "fork": 40, "knife": 40, "cup": 40, "bottle": 35}),
    "birthday": (3, {"cake": 95, "dining table": 75, "person": 60, "knife": 45, "fork": 35, "wine glass": 35}),
    "donuts": (2.2, {"donut": 95, "cup": 75, "dining table": 35, "spoon": 25, "person": 25}),
    "fruit": (3, {"apple": 80, "orange": 75, "banana": 70, "bowl": 45, "knife": 25}),
    "vegetables": (2.2, {"broccoli": 85, "carrot": 85, "bowl": 50, "knife": 35, "fork": 30, "dining table": 30}),
    "snack": (2.5, {"hot dog": 75, "sandwich": 70, "cup": 55, "person": 50, "bottle": 45}),
    "flowers": (2, {"vase": 85, "potted plant": 70, "chair": 30, "cat": 20}),
    "crafts": (1.8, {"scissors": 95, "book": 60, "teddy bear": 35, "cell phone": 25}),
}  # fmt: skip


@dataclass(frozen=True)
class PictoCocoSpec:
    """What to draw. Sizes are longer sides relative to the image's side.

    train, val, test: scenes a split. side: pixels. min_object, max_object: range of the log-uniform object size; for
    small things (`SMALL`) the upper end is half as much, and the share `tiny` of them is between min_tiny and max_tiny.
    repeats: chance of one more object of the same class. angle: largest rotation in degrees. occluders: chance of a
    patch in front of an object. noise: largest standard deviation in grey levels. visible: share that is in view of
    every object.
    """

    train: int = 4000
    val: int = 500
    test: int = 1500
    seed: int = 1
    side: int = 224
    min_object: float = 0.16
    max_object: float = 0.6
    tiny: float = 0.5
    min_tiny: float = 0.04
    max_tiny: float = 0.08
    repeats: float = 0.15
    angle: float = 25.0
    occluders: float = 0.2
    noise: float = 16.0
    visible: float = 0.5

    def __post_init__(self):
        if min(self.train, self.val, self.test) < 1:
            raise InputError("data.picto_coco: train, val and test need at least one scene each")
        if not 0 < self.min_tiny <= self.max_tiny <= self.min_object <= self.max_object / 2 <= 0.5:
            raise InputError(
                "data.picto_coco: sizes must satisfy 0 < min_tiny <= max_tiny <= min_object <= max_object / 2 <= 0.5"
            )
        if not 64 <= self.side <= 640:
            raise InputError(f"data.picto_coco.side={self.side}: choose 64 to 640 pixels")
        if not 0 <= self.visible <= 0.7:
            raise InputError(f"data.picto_coco.visible={self.visible}: choose 0 to 0.7")


def digest(spec: PictoCocoSpec) -> str:
    """Eight hexadecimal characters that name the data set of a specification."""
    return scenes.digest(VERSION, spec)


def compose(spec: PictoCocoSpec, split: str, index: int) -> Scene:
    """Decide one scene; it depends on the specification, the split and the index alone."""
    seed = _seed(spec, split, index)
    rng = np.random.default_rng(seed)
    names = _names(rng)
    names += [name for name in names if rng.random() < spec.repeats]
    objects, patches = _arrange(rng, names, spec)
    return Scene(f"{split}_{index:06d}", objects, patches, seed)


def _seed(spec: PictoCocoSpec, split: str, index: int) -> tuple[int, ...]:
    return (spec.seed, 2, SPLITS.index(split), index)  # other ones than PictoVOC's scenes have


def _names(rng: np.random.Generator) -> list[str]:
    """The classes of a scene."""
    weights = np.array([weight for weight, _ in CONTEXTS.values()])
    _, chances = list(CONTEXTS.values())[rng.choice(len(CONTEXTS), p=weights / weights.sum())]
    chosen = [name for name, chance in chances.items() if 100 * rng.random() < chance]
    return chosen or [next(iter(chances))]


def _arrange(
    rng: np.random.Generator, names: Sequence[str], spec: PictoCocoSpec
) -> tuple[tuple[Object, ...], tuple[Box, ...]]:
    """Objects from the largest at the back to the smallest in front, and patches, with enough of each object in view.

    Where objects hide one another, the next draw makes everything a twentieth smaller; a patch that hides is left out.
    """
    scale = 1.0
    while True:
        looks = [(name, _code(rng, name), max(LEAST, scale * _side(rng, name, spec))) for name in names]
        placed: list[Object] = []
        for name, code, side in sorted(looks, key=lambda look: -look[2]):
            placed.append(scenes.place(rng, name, code, side, placed, canvas=spec.side, angle=spec.angle))
        if _in_view(placed, [], spec):
            break
        scale *= 0.95
    patches: list[Box] = []
    for patch in scenes.patches(rng, placed, spec.occluders):
        if _in_view(placed, [*patches, patch], spec):
            patches.append(patch)
    return tuple(placed), tuple(patches)


def _in_view(objects: Sequence[Object], patches: Sequence[Box], spec: PictoCocoSpec) -> bool:
    """Whether enough of each object lies in the picture and behind neither later ones nor patches."""
    in_front = [*(item.box for item in objects), *patches]
    return all(scenes.share_in_view(item, in_front[i + 1 :]) >= spec.visible for i, item in enumerate(objects))


def _code(rng: np.random.Generator, name: str) -> str:
    codes = GLYPHS[name].split()
    return codes[rng.integers(len(codes))]


def _side(rng: np.random.Generator, name: str, spec: PictoCocoSpec) -> float:
    """A random size for an object of the class, in pixels."""
    low, high = spec.min_object, spec.max_object
    if name in SMALL:
        low, high = (spec.min_tiny, spec.max_tiny) if rng.random() < spec.tiny else (low, high / 2)
    return spec.side * math.exp(rng.uniform(math.log(low), math.log(high)))


def render(scene: Scene, spec: PictoCocoSpec) -> Image.Image:
    """Draw a scene: RGB, `spec.side` pixels square."""
    return scenes.render(scene, spec.side, spec.noise)


def instances(drawn: Sequence[Scene], spec: PictoCocoSpec) -> dict:
    """The content of an instances file for some scenes: images, annotations and categories as COCO writes them."""
    images, annotations = [], []
    for number, scene in enumerate(drawn, start=1):
        images.append({"id": number, "file_name": f"{scene.id}.jpg", "width": spec.side, "height": spec.side})
        for item in scene.objects:
            left, top, right, bottom = item.box
            box = [left, top, right - left, bottom - top]
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": CATEGORIES[item.label]}
            annotations.append(entry | {"bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": number, "name": name} for name, number in CATEGORIES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def prepare(
    root: str | Path, spec: PictoCocoSpec | None = None, *, progress: Callable[[Iterable], Iterable] = iter
) -> Path:
    """Write the data set under `root` unless it is there; returns `root`.

    A reader never sees a part of it. Raises InputError if `root` holds another data set.
    """
    spec = spec or PictoCocoSpec()
    return scenes.prepare(root, "picto-coco", VERSION, spec, lambda folder: _write(folder, spec, progress))


def _write(root: Path, spec: PictoCocoSpec, progress) -> dict[str, int]:
    (root / "annotations").mkdir(parents=True)
    wanted = [(split, index) for split in SPLITS for index in range(getattr(spec, split))]
    drawn: dict[str, list[Scene]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        (root / split).mkdir()
    checksums: dict[str, int] = {}
    for split, index in progress(wanted):
        scene = compose(spec, split, index)
        name = f"{scene.id}.jpg"
        checksums[name] = scenes.save(render(scene, spec), root / split / name)
        drawn[split].append(scene)
    for split, chosen in drawn.items():
        text = json.dumps(instances(chosen, spec), separators=(",", ":"))
        (root / "annotations" / f"instances_{split}.json").write_text(text)
    return checksums
