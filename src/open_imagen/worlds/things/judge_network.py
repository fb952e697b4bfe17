"""The judge's classifier: which thing, style and color a crop shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_imagen.errors import CheckpointError
from open_imagen.storage import load_tensors, read_json, save_tensors, write_json
from open_imagen.worlds.shapes.scenes import SHAPES
from open_imagen.worlds.things.catalog import STYLES
from open_imagen.worlds.things.colors import NAMES as COLOR_NAMES
from open_imagen.worlds.things.segment import CHANNELS

FORMAT = 1
WIDTHS = (64, 128, 256)


class Labels(NamedTuple):
    """What the classifier's outputs mean: things, then shapes, a sign, and nothing known."""

    things: tuple[str, ...]
    shapes: tuple[str, ...] = SHAPES
    styles: tuple[str, ...] = STYLES
    colors: tuple[str, ...] = ("", *COLOR_NAMES)
    """The first: as drawn."""

    @property
    def sign(self) -> int:
        """The class of signs."""
        return len(self.things) + len(self.shapes)

    @property
    def none(self) -> int:
        """Something else: two objects in one, a fragment, a mixture."""
        return self.sign + 1

    def shape(self, name: str) -> int:
        """The class of a shape."""
        return len(self.things) + self.shapes.index(name)

    def name(self, number: int) -> str:
        """Of an output: a thing's label, "shape star", "sign" or ""."""
        if number < len(self.things):
            return self.things[number]
        if number < self.sign:
            return f"shape {self.shapes[number - len(self.things)]}"
        return "sign" if number == self.sign else ""


class Scores(NamedTuple):
    """Probabilities of N crops."""

    things: Tensor
    """[N, things + shapes + 2]."""
    styles: Tensor
    colors: Tensor


class Classifier(Protocol):
    """Anything that tells what crops show."""

    @property
    def labels(self) -> Labels:
        """The names of the classes."""

    @property
    def facts(self) -> dict[str, Any]:
        """What it is and how often it is right, for reports."""
        ...

    def __call__(self, crops: Tensor) -> Scores:
        """Classify crops, float [N, 4, 64, 64] as `segment.crops` makes them."""
        ...


class JudgeNetwork(nn.Module):
    """Plain convolutions over patches of 4 x 4 pixels; three heads."""

    def __init__(self, things: int, styles: int, colors: int) -> None:
        """Build the layers.

        Args:
            things: number of outputs of the first head.
        """
        super().__init__()
        one, two, three = WIDTHS
        self.body = nn.Sequential(
            nn.Conv2d(CHANNELS, one, 6, 4, 1, bias=False),
            nn.BatchNorm2d(one),
            nn.ReLU(inplace=True),
            Residual(one),
            *_halved(one, two),
            Residual(two),
            *_halved(two, three),
            *_convolution(three, three),
        )
        self.thing = nn.Linear(three, things)
        self.style = nn.Linear(three, styles)
        self.color = nn.Linear(three, colors)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of things, styles and colors."""
        features = self.body(crops).mean((2, 3))
        return self.thing(features), self.style(features), self.color(features)


class Residual(nn.Module):
    """A convolution, added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        return F.relu(x + self.norm(self.convolution(x)))


def _convolution(width: int, out: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(width, out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


def _halved(width: int, out: int) -> tuple[nn.Module, ...]:
    return _convolution(width, out, stride=2)


@dataclass(frozen=True)
class NetworkClassifier:
    """A trained network and what its outputs mean."""

    network: JudgeNetwork
    labels: Labels
    facts: dict[str, Any]

    @torch.no_grad()
    def __call__(self, crops: Tensor) -> Scores:
        """Scores of crops."""
        device = next(self.network.parameters()).device
        parts = [
            self.network(part.to(device, memory_format=torch.channels_last))
            for part in torch.split(crops, 256)
            if len(part)
        ]
        if not parts:
            empty = (torch.zeros(0, head.out_features) for head in self.heads)
            return Scores(*empty)
        return Scores(
            *(torch.cat(head).float().softmax(1).cpu() for head in zip(*parts, strict=True))
        )

    @property
    def heads(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """The heads for thing, style and color."""
        return self.network.thing, self.network.style, self.network.color


def make_network(labels: Labels) -> JudgeNetwork:
    """A network with new weights."""
    network = JudgeNetwork(labels.none + 1, len(labels.styles), len(labels.colors))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return network


def save_classifier(
    path: Path, network: JudgeNetwork, labels: Labels, facts: dict[str, Any]
) -> None:
    """Write weights in float16, and labels and facts as JSON beside them."""
    tensors = {
        name: value.half() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_tensors(path, tensors)
    header = {"format": FORMAT, "labels": labels._asdict(), "facts": facts}
    write_json(path.with_suffix(".json"), header)


def write_facts(path: Path, facts: dict[str, Any]) -> None:
    """Add facts to those of a classifier: how often it is right."""
    header = read_json(path.with_suffix(".json"))
    header["facts"].update(facts)
    write_json(path.with_suffix(".json"), header)


def load_classifier(path: Path, device: torch.device | str = "cpu") -> NetworkClassifier:
    """Read a classifier.

    Raises:
        CheckpointError: it is missing, damaged, or no judge.
    """
    tensors = load_tensors(path)
    try:
        header = read_json(path.with_suffix(".json"))
        known = {name: tuple(values) for name, values in header["labels"].items()}
        labels, facts = Labels(**known), header["facts"]
        if header["format"] != FORMAT:
            raise ValueError(f"it has format {header['format']}, and this version reads {FORMAT}")
        network = make_network(labels)
        missing, odd = network.load_state_dict(
            {name: value.float() for name, value in tensors.items()}, strict=False
        )
        if odd or any(not name.endswith("num_batches_tracked") for name in missing):
            raise ValueError("its weights are of another network")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is not a judge of things: {error}.",
            "Train one: scripts/train_things_judge.py --atlas DIR --out FILE",
        ) from error
    return NetworkClassifier(network.to(device).eval(), labels, facts)


def packaged_judge() -> Path:
    """The package's own judge.

    Raises:
        CheckpointError: this installation has none.
    """
    path = Path(str(files("open_imagen"))) / "worlds" / "things" / "data" / "judge.safetensors"
    if not path.is_file():
        raise CheckpointError(
            "This installation has no judge of things.",
            "Train one, and give it with --judge: "
            "scripts/train_things_judge.py --atlas DIR --out FILE",
        )
    return path


def labels_of(things: Sequence[Any]) -> Labels:
    """The labels of an atlas's things."""
    return Labels(tuple(thing.label for thing in things))
