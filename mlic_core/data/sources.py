"""Where the published data sets come from, what their archives are, and how many images and objects they have.

URLs: those of torchvision for VOC, those of the COCO project for COCO. Sizes and SHA-256: the lists that TensorFlow
Datasets checks its downloads by; torchvision's has the same SHA-256 for VOC. COCO itself publishes none.
"""

from typing import NamedTuple


class Archive(NamedTuple):
    """A file to download. size: bytes."""

    url: str
    size: int
    sha256: str

    @property
    def file(self) -> str:
        """Its name on disk."""
        return self.url.rsplit("/", 1)[1]


class Source(NamedTuple):
    """What to download, and which of the files and folders in it make the data set; the others stay packed."""

    archives: tuple[Archive, ...]
    contents: tuple[str, ...]


class Figures(NamedTuple):
    """Published size of a split: images that have labels, and annotated objects, difficult ones not counted.

    None for what is not published.
    """

    images: int | None
    objects: int | None = None


VOC = "https://thor.robots.ox.ac.uk/pascal/VOC/"
COCO = "http://images.cocodataset.org/"


def _coco(year: int, train: Archive, val: Archive, annotations: Archive) -> Source:
    folders = [f"{split}{year}" for split in ("train", "val")]
    return Source(
        (train, val, annotations), (*folders, *(f"annotations/instances_{folder}.json" for folder in folders))
    )


SOURCES = {
    "voc2007": Source(
        (
            Archive(
                f"{VOC}voc2007/VOCtrainval_06-Nov-2007.tar",
                460_032_000,
                "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
            ),
            Archive(
                f"{VOC}voc2007/VOCtest_06-Nov-2007.tar",
                451_020_800,
                "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
            ),
        ),
        ("VOCdevkit/VOC2007",),
    ),
    "voc2012": Source(
        (
            Archive(
                f"{VOC}voc2012/VOCtrainval_11-May-2012.tar",
                1_999_639_040,
                "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
            ),
        ),
        ("VOCdevkit/VOC2012",),
    ),
    "coco2014": _coco(
        2014,
        Archive(
            f"{COCO}zips/train2014.zip",
            13_510_573_713,
            "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
        ),
        Archive(
            f"{COCO}zips/val2014.zip",
            6_645_013_297,
            "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
        ),
        Archive(
            f"{COCO}annotations/annotations_trainval2014.zip",
            252_872_794,
            "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
        ),
    ),
    "coco2017": _coco(
        2017,
        Archive(
            f"{COCO}zips/train2017.zip",
            19_336_861_798,
            "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
        ),
        Archive(
            f"{COCO}zips/val2017.zip",
            815_585_330,
            "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
        ),
        Archive(
            f"{COCO}annotations/annotations_trainval2017.zip",
            252_907_541,
            "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
        ),
    ),
}

NUS_WIDE = (
    "the authors of NUS-WIDE send its photographs to those who return their Agreement and Disclaimer Form, and give "
    "labels and lists on the same page, https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/"
    "NUS-WIDE.html; unpack all of it into one folder, as data/README.md shows, and run `mlic data check {name} "
    "--root FOLDER`"
)
ON_REQUEST = {name: NUS_WIDE for name in ("nuswide81", "nuswide1000")}  # sets that no program may download

# VOC: the tables of the two development kits. COCO and NUS-WIDE: images with at least one label; COCO's two years share
# out the same 122,218.
PUBLISHED = {
    "voc2007": {
        "train": Figures(2501, 6301),
        "val": Figures(2510, 6307),
        "trainval": Figures(5011, 12608),
        "test": Figures(4952, 12032),
    },
    "voc2012": {"train": Figures(5717, 13609), "val": Figures(5823, 13841), "trainval": Figures(11540, 27450)},
    "coco2014": {"train": Figures(82081), "val": Figures(40137)},
    "coco2017": {"train": Figures(117266), "val": Figures(4952)},
    "nuswide81": {"train": Figures(125449), "test": Figures(83898)},
    "nuswide1000": {"train": Figures(None), "test": Figures(None)},
}
