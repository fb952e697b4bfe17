"""The text of a recipe that imagen init writes: every choice with its reason."""

import json
from dataclasses import dataclass
from typing import Any

from open_imagen.planning.folder_facts import FolderFacts
from open_imagen.planning.machine import Machine

ENOUGH = 0.25
"""Share of the images that a network should see for which it is still the better choice than a
smaller one that sees them all."""
MANY = 20_000
"""Images from which a network of the paper's kind is worth its time."""
LETTERS = 16
QUOTED = 0.02
"""Share of captions with quoted text from which the network reads letters."""
COMMENT = 30
"""Column of comments behind settings."""


@dataclass(frozen=True)
class Context:
    """What recipes are fitted to."""

    facts: FolderFacts
    machine: Machine
    name: str
    hours: float
    encoder: str
    width: int
    caption: str

    @property
    def letters(self) -> int:
        """Letters of quoted text that the networks read."""
        return LETTERS if self.facts.quoted >= QUOTED * self.facts.captions else 0


@dataclass(frozen=True)
class Choice:
    """A network for one stage, and how long it is trained."""

    preset: str
    images: int
    wanted: int
    """Images that would be seen without a limit of time."""
    rate: float
    """Images a second."""
    batch: int
    accumulate: int
    parameters: int

    @property
    def is_enough(self) -> bool:
        """Whether it sees enough images in the time given."""
        return self.images >= ENOUGH * self.wanted

    @property
    def hours(self) -> float:
        """Training time in hours."""
        return self.images / self.rate / 3600


def write_recipe(how: Context, name: str, side: int, lowres: int, choice: Choice) -> str:
    """The recipe as TOML, every choice with its reason."""
    parts = [_head(how, name, side, lowres), _network(how, name, side, lowres, choice)]
    parts += [_diffusion(side, lowres), _data(how, side, lowres), _train(how, lowres, choice)]
    return "\n".join([*parts, _optimiser(choice)])


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _why(setting: str, reason: str) -> str:
    """A setting with a comment behind it."""
    return f"{setting:{COMMENT - 2}}  # {reason}"


def _head(how: Context, name: str, side: int, lowres: int) -> str:
    facts = how.facts
    kind = f"{lowres} -> {side} pixels" if lowres else f"text -> {side}x{side} pixels"
    sides = facts.short_sides
    notes = [
        f"# {kind}, for {facts.images:,} images, by imagen init.",
        f"# Short sides: {sides[0]} to {sides[-1]} pixels, the middle one {facts.median_side}; "
        f"{facts.share_of_at_least(side):.0%} have {side} or more.",
        f"# {facts.captions:,} different captions, the middle one of {facts.words} words.",
    ]
    if facts.unreadable:
        notes.append(f"# {facts.unreadable:,} images cannot be read; they are skipped.")
    if facts.transparent:
        notes.append(f"# {facts.transparent:,} have transparency, which becomes white.")
    if facts.long_captions:
        notes.append(f"# {facts.long_captions:,} captions are long: they are cut at 128 tokens.")
    notes += [
        f"# Run: imagen train {name}.toml     (again to resume; --set a.b=c changes a setting)",
        f"name = {_text(name)}",
        "",
        "# The frozen text encoder. All stages of a model share one; the larger T5 know more words",
        '# (encoder = "t5-v1_1-base" ...) and are downloaded when first needed.',
        f"encoder = {_text(how.encoder)}",
        "",
    ]
    return "\n".join(notes)


def _network(how: Context, name: str, side: int, lowres: int, choice: Choice) -> str:
    size = f"{choice.parameters / 1e6:.1f}M parameters"
    reason = (
        f"# {size}: the largest network that sees enough images in the time given."
        if choice.is_enough
        else f"# {size}: the smallest network; a larger one would need more time."
    )
    lines = [
        "[stage]",
        f"name = {_text(name.rpartition('-')[2])}",
        f"resolution = {side}",
        *([_why(f"lowres = {lowres}", "the base's resolution")] if lowres else []),
        "",
        reason,
        *(
            [f"# (The paper's own sizes are considered from {MANY:,} images on.)"]
            if how.facts.images < MANY
            else []
        ),
        "[stage.network]",
        f"preset = {_text(choice.preset)}",
        _why(f"text_width = {how.width}", f"of {how.encoder}'s tokens"),
    ]
    if how.letters:
        reason = f"{how.facts.quoted:,} captions quote text that is to be written"
        lines.append(_why(f"letters = {how.letters}", reason))
    return "\n".join([*lines, ""])


def _diffusion(side: int, lowres: int) -> str:
    schedule = ["# The cosine schedule of the paper.", "[stage.schedule]", 'name = "cosine"']
    guidance = _why("guidance = 3.0", "higher: closer to the caption, less varied")
    if lowres:
        schedule = ["# More noise for larger images, whose neighbouring pixels are alike."]
        schedule += ["[stage.schedule]", 'name = "shifted"', f"resolution = {side}"]
        schedule += [f"reference = {lowres}"]
        guidance = _why("guidance = 1.0", "off: the small image says what there is")
    lines = [
        *schedule,
        "",
        "# Networks that see folded patches do best predicting the image itself (x); the weight of",
        "# nearly clean images is bounded.",
        "[stage.objective]",
        'prediction = "x"',
        'space = "v"',
        "max_weight = 100.0",
        "",
        "# Defaults of imagen generate; they can be changed for every image.",
        "[stage.sampling]",
        f"steps = {8 if lowres else 30}",
        guidance,
        'sampler = "dpmpp_2m"',
        f"threshold = {_text('static' if lowres else 'dynamic')}",
        *([_why("noise_level = 0.1", "the paper advises 0.1 to 0.3")] if lowres else []),
        "",
    ]
    return "\n".join(lines)


def _data(how: Context, side: int, lowres: int) -> str:
    lines = [
        "# The short side of each image is scaled to `size`, and the centre square is cut out.",
        "[data]",
        'kind = "folder"',
        f"path = {_text(how.facts.path)}",
        f"size = {side}",
    ]
    if how.caption:
        lines.append(_why(f"caption = {_text(how.caption)}", "of images without their own"))
    if lowres:
        lines += [
            _why(f"crop = {side // 2}", "random crops: a quarter of the work, and variety"),
            f"lowres = {lowres}",
        ]
    return "\n".join([*lines, ""])


def _train(how: Context, lowres: int, choice: Choice) -> str:
    epochs = choice.images / how.facts.images
    limit = (
        f"# {how.hours:g} hours allow no more; {choice.wanted:,} would be better (train.images, or "
        "imagen init --hours)."
        if choice.images < choice.wanted
        else f"# At most {how.hours:g} hours are allowed (imagen init --hours)."
    )
    every = max(choice.batch, choice.images // 20)
    lines = [
        f"# Each image is seen about {epochs:,.0f} times.",
        f"# At {choice.rate:,.1f} images/s that takes {choice.hours:.1f} hours: the speed of a "
        "small network,",
        f"# measured on this {how.machine.device}, scaled by operations.",
        limit,
        "[train]",
        f"images = {choice.images}",
        f"batch_size = {choice.batch}",
    ]
    if choice.accumulate != 1:
        parts = choice.accumulate or choice.batch
        lines.append(_why(f"accumulate = {parts}", "parts of a batch: a step fits into memory"))
    lines += [
        f"log_every = {max(choice.batch, choice.images // 200)}",
        _why(f"save_every = {every}", "checkpoints, twenty in the run"),
    ]
    if lowres:
        return "\n".join([*lines, "sample_every = 0", ""])
    examples = [f"    {_text(one)}," for one in how.facts.examples]
    lines.append(_why(f"sample_every = {2 * every}", "images of these captions, to watch it learn"))
    return "\n".join([*lines, "prompts = [", *examples, "]", ""])


def _optimiser(choice: Choice) -> str:
    small = choice.preset.startswith(("tiny", "small"))
    reason = (
        "# Muon gets further than AdamW in the same time with networks of this size."
        if small
        else "# A small rate for a network of the paper's kind."
    )
    lines = [
        reason,
        "[optim]",
        f"name = {_text('muon' if small else 'adamw')}",
        f"lr = {1e-3 if small else 1e-4}",
        _why(f"warmup = {max(choice.batch, choice.images // 50)}", "images"),
        _why("decay = 0.5", "the last half of the run, to 0"),
        "",
        "# The average of the weights that is saved as the model.",
        "[ema]",
        f"half_life = {max(1, choice.images // 50)}",
        "",
    ]
    return "\n".join(lines)
