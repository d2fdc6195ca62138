"""Controls for JupyterLab: choose an image, a method and its options, and see what the model makes of them.

Under papermill and nbval nobody could move a slider, and a saved one is dead: there `show` says so and shows nothing.
"""

import base64
import io
import tempfile
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
from IPython import get_ipython
from IPython.display import display
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from mlic_core.data import MultiLabelDataset
from mlic_core.errors import InputError
from mlic_core.study.experiments import Experiment
from mlic_core.study.explore import Option, best_labels, look, options_of, view
from mlic_core.study.notebook import Study
from mlic_core.study.predict import ENDINGS, Photos

DPI = 100
NOBODY = "Nobody is here to move a slider: run this cell in JupyterLab."


def experiments(study: Study) -> dict[str, Experiment]:
    """One run of each method that notebooks 01 to 05 train on the first data set, with the profile's first seed."""
    size, pooled = study.sweep("sizes")[0], {"method.pooling": study.sweep("mcar_pooling")[0]}
    base = study.experiment("classifier", **pooled)
    on_base = {"trunk_of": base, "data.size": size}
    return {
        "MCAR": study.experiment("mcar", **pooled),
        "baseline": base,
        "CNN-RNN": study.experiment("cnn_rnn", trunk_of=base, **pooled),
        "RDAR": study.experiment("rdar", **on_base),
        "RDAR with BCE": study.experiment("rdar", **on_base, **{"method.loss": "bce"}),
        "global/local attention": study.experiment("gla", **on_base),
    }


def dataset_of(study: Study, experiment: Experiment) -> MultiLabelDataset:
    """The eval split of an experiment at its size."""
    return study.dataset(experiment.data.eval_split, **{"data.size": experiment.data.size})


class Still(MultiLabelDataset):
    """One image that is in memory already, without labels."""

    def __init__(self, image: Image.Image, labels: tuple[str, ...], size: int):
        targets = np.zeros((1, len(labels)), dtype=np.int8)
        super().__init__(name="image", split="given", labels=labels, targets=targets, ids=("given",), size=size)
        self.image = image

    def original(self, index: int) -> Image.Image:
        return self.image.copy()


def decode(name: str, content: bytes) -> Image.Image:
    """An uploaded file as an upright RGB image. Raises InputError naming the file if it is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "upload")
        path.write_bytes(content)
        try:
            return Photos([path], (), 1).original(0)
        except InputError as error:
            raise InputError(str(error).replace(str(path), name)) from None


class Explorer:
    """The controls (`box`, for display) over trained models by name, each with the test images at its size.

    `method`, `number` and `file` choose what is seen, `sliders` hold the method's options by name, and `picture` shows
    the result or, for bad input, one sentence. The image is the last one chosen, by number or by file.
    """

    def __init__(self, models: Mapping[str, nn.Module], datasets: Mapping[str, MultiLabelDataset]):
        self.models, self.datasets = models, datasets
        self.given: Image.Image | None = None  # the user's own
        last = len(next(iter(datasets.values()))) - 1
        self.method = ipywidgets.Dropdown(options=list(models), description="method")
        self.number = ipywidgets.BoundedIntText(min=0, max=last, description="test image")
        self.file = ipywidgets.FileUpload(accept=",".join(ENDINGS), description="or your own")
        self.sliders: dict[str, ipywidgets.Widget] = {}
        self.options, self.picture = ipywidgets.VBox(), ipywidgets.HTML()
        row = ipywidgets.HBox([self.method, self.number, self.file])
        self.box = ipywidgets.VBox([row, self.options, self.picture])
        self.method.observe(self._choose_method, "value")
        self.number.observe(self._choose_number, "value")
        self.file.observe(self._choose_file, "value")
        self._choose_method()

    def _choose_method(self, change: Any = None) -> None:
        for slider in self.sliders.values():
            slider.close()
        found = options_of(self.models[self.method.value])
        self.sliders = {option.name: control(option, value) for option, value in found.items()}
        for slider in self.sliders.values():
            slider.observe(self._draw, "value")
        notes = [f"{option.meaning}; trained with {value}" for option, value in found.items()]
        rows = zip(self.sliders.values(), map(ipywidgets.Label, notes), strict=True)
        self.options.children = [ipywidgets.HBox(row) for row in rows]
        self._look()

    def _choose_number(self, change: Any) -> None:
        self.given = None
        self._look()

    def _choose_file(self, change: Any) -> None:
        if not self.file.value:
            return
        try:
            self.given = decode(self.file.value[0]["name"], bytes(self.file.value[0]["content"]))
        except InputError as error:
            self._say(error)
        else:
            self._look()

    def _look(self) -> None:
        dataset, index = self.datasets[self.method.value], self.number.value
        if self.given is not None:
            dataset, index = Still(self.given, dataset.labels, dataset.size), 0
        try:
            self.seen = look(self.models[self.method.value], dataset, index)
        except InputError as error:
            self._say(error)
        else:
            self._draw()

    def _draw(self, change: Any = None) -> None:
        found = view(self.seen, **{name: slider.value for name, slider in self.sliders.items()})
        labels, usual = self.seen.labels, best_labels(self.seen.usual, self.seen.labels)
        text = f"{self.method.value}: {best_labels(found.scores, labels)}; as trained: {usual}"
        self.picture.value = as_html(found.figure, text)

    def _say(self, error: InputError) -> None:
        self.picture.value = f"<p>{escape(str(error))}</p>"


def control(option: Option, value: float | int | str) -> ipywidgets.Widget:
    """A slider over an option's values, or a list of words; it acts when it is let go, since a redraw takes a while."""
    if isinstance(value, str):
        return ipywidgets.Dropdown(options=option.values, value=value, description=option.name)
    choices = [(f"{one:g}", one) for one in option.values]
    return ipywidgets.SelectionSlider(
        options=choices, value=value, description=option.name, continuous_update=False, layout={"width": "340px"}
    )


def as_html(figure: Figure, text: str) -> str:
    """A figure as an image in HTML, with a text below it that also stands for it where it can't be seen."""
    figure.set_dpi(DPI)
    canvas, buffer = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()  # once, where savefig draws twice
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(buffer, "png", compress_level=1)
    data = base64.b64encode(buffer.getvalue()).decode()
    image = f'<img alt="{escape(text)}" src="data:image/png;base64,{data}" style="max-width: 100%">'
    return f'<figure style="margin: 0">{image}<figcaption>{escape(text)}</figcaption></figure>'


def has_front_end() -> bool:
    """Whether the running cell was sent by a front end with someone at it.

    Jupyter's protocol has each request say whether its sender could answer a question (`allow_stdin`): JupyterLab
    says yes; papermill, nbconvert and nbval say no.
    """
    parent = getattr(get_ipython(), "get_parent", dict)()
    return bool(parent.get("content", {}).get("allow_stdin", False))


def show(explorer: Explorer) -> None:
    """Display the controls, or where nobody could move them a sentence."""
    if has_front_end():
        display(explorer.box)
    else:
        print(NOBODY)
