"""research/reproduction.md: what the paper claims, and what the small models here show."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from open_imagen.evaluation.sweeps.plots import COLORS, MARKS
from open_imagen.storage import atomic, read_json, write_text

FOLDER = Path(__file__).parents[1] / "research"
RESULTS, PAGE = FOLDER / "reproduction.json", FOLDER / "reproduction.md"
PLOTS = FOLDER / "images"
RMSE = "reconstruction_rmse"
"""The measure of super-resolution."""
Results = Mapping[str, Any]

HEAD = """# The paper's findings in miniature

Small models of the [shapes world](../docs/concepts/shapes.md) that differ in one thing, trained on
the same examples with the same noise, and measured alike. `scripts/reproduce.py` trains and
measures them and writes this page; no figure is written by hand. Their recipes are
`recipes/miniature-base.toml` and `recipes/miniature-sr256.toml`; the tables say what differs.

The bases start from scenes-teacher as it was after 900,000 images, with all weights that read text
reinitialised. The weights that draw were trained with MiniLM, which may favour it. The narrower
base started from a network trained on evenly spread channels of it (weight slicing, which the
package no longer has: this model cannot be trained again).

Brackets are 95 % intervals of one training run each. They cover prompts and noise, not the seed of
training. A verdict compares two shares, or two means by pairs: a claim *holds* or *does not hold*
where the 95 % interval of the difference is on one side of zero; otherwise it *cannot be told*.
"""


class Gap(NamedTuple):
    """A difference with its 95 % interval."""

    value: float
    half: float

    @property
    def verdict(self) -> str:
        """Of the claim that it is above zero."""
        if abs(self.value) <= self.half:
            return "cannot be told"
        return "holds" if self.value > 0 else "does not hold"


def share_gap(first: Mapping[str, Any], second: Mapping[str, Any]) -> Gap:
    """Between two shares, in points."""
    variance = sum(one["share"] * (1 - one["share"]) / one["of"] for one in (first, second))
    return Gap(100 * (first["share"] - second["share"]), 196 * math.sqrt(variance))


def paired_gap(first: Sequence[float], second: Sequence[float]) -> Gap:
    """Between the means of two models on the same prompts and seeds, by the pairs' differences."""
    apart = [a - b for a, b in zip(first, second, strict=True)]
    half = 1.96 * statistics.stdev(apart) / math.sqrt(len(apart))
    return Gap(statistics.fmean(apart), half)


@dataclass(frozen=True)
class Section:
    """A finding, the models that ask for it, and what is said once all are measured."""

    title: str
    claim: str
    models: dict[str, str]
    """What each is, by name."""
    say: Callable[["Section", Results], list[str]]
    besides: tuple[str, ...] = ()
    """Results that it wants beside the models'."""


def shapes_table(section: Section, results: Results, plot: str = "") -> list[str]:
    """A row for each base, a column for each category; then the plot of them by this name."""
    first = results[next(iter(section.models))]["shapes"]
    lines = [
        "| | parameters | " + " | ".join(name.replace("_", " ") for name in first) + " |",
        "|---|---:|" + "---:|" * len(first),
    ]
    for name, about in section.models.items():
        facts = results[name]
        cells = [
            f"{s['share']:.1%} [{s['low']:.0%}, {s['high']:.0%}]" for s in facts["shapes"].values()
        ]
        millions = f"{facts['parameters'] / 1e6:.1f}M"
        lines.append(f"| {about} | {millions} | " + " | ".join(cells) + " |")
    if plot:
        plot_shapes(section, results, plot)
        lines += ["", f"![Shares right](images/reproduction-{plot}.png)"]
    return [*lines, ""]


def compare(results: Results, first: str, second: str, categories: Sequence[str]) -> list[str]:
    """Whether the first model is better, by category."""
    lines = []
    for category in categories:
        gap = share_gap(results[first]["shapes"][category], results[second]["shapes"][category])
        found = f"**{gap.verdict}**, {gap.value:+.1f} +- {gap.half:.1f} points"
        lines.append(f"- {category.replace('_', ' ')}: {found}")
    return lines


def pooling(section: Section, results: Results) -> list[str]:
    return [
        *shapes_table(section, results, "pooling"),
        "Sequence better than pooled:",
        "",
        *compare(results, "sequence", "pooled", ("two_objects", "position", "counting")),
    ]


def encoder(section: Section, results: Results) -> list[str]:
    return [
        *shapes_table(section, results, "encoder"),
        "The frozen language model better than the one learned from scratch:",
        "",
        *compare(results, "sequence", "untrained", ("two_objects", "unseen_pairs", "unseen_words")),
        "",
        "All six layers better than word vectors alone:",
        "",
        *compare(results, "sequence", "words", ("two_objects", "position", "unseen_words")),
    ]


def sizes(section: Section, results: Results) -> list[str]:
    lines = shapes_table(section, results, "size")
    lines.append("What the encoder's size gains above what the network's size gains:")
    lines.append("")
    for category in ("two_objects", "position", "unseen_words"):
        parts = (results[name]["shapes"][category] for name in ("sequence", "words", "narrow"))
        whole, words, narrow = parts
        by_encoder, by_network = share_gap(whole, words), share_gap(whole, narrow)
        # Both share the large model, so the difference of gains is that of the two small ones.
        gap = share_gap(narrow, words)
        lines.append(
            f"- {category.replace('_', ' ')}: **{gap.verdict}**, {by_encoder.value:+.1f} by the "
            f"encoder, {by_network.value:+.1f} by the network (difference +- {gap.half:.1f})"
        )
    lines += [
        "",
        "The narrower network has learned to draw from 120,000 images, after it was cut out of "
        "scenes-teacher, which had learned from 900,000: part of what it misses may be that, and "
        "not its width.",
    ]
    return lines


def augmentation(section: Section, results: Results) -> list[str]:
    levels = {name: results[name]["noise_levels"] for name in section.models}
    lines = ["| noise level at sampling | " + " | ".join(section.models.values()) + " |"]
    lines.append("|---:|" + "---:|" * len(levels))
    for points in zip(*levels.values(), strict=True):
        cells = [
            f"reconstruction RMSE {p[RMSE]['value']:.2f} +- {p[RMSE]['error']:.2f}, "
            f"right {p['alignment']['value']:.0f} %"
            for p in points
        ]
        lines.append(f"| {points[0]['level']:g} | " + " | ".join(cells) + " |")
    best = {n: min(ps, key=lambda point: point[RMSE]["value"]) for n, ps in levels.items()}
    gap = paired_gap(best["clean"]["rmse_by_image"], best["augmented"]["rmse_by_image"])
    plot = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    axes = plot.add_subplot()
    for k, (name, points) in enumerate(levels.items()):
        axes.errorbar(
            [p["level"] for p in points],
            [p[RMSE]["value"] for p in points],
            yerr=[1.96 * p[RMSE]["error"] for p in points],
            color=COLORS[k], marker=MARKS[k], capsize=2, label=section.models[name],
        )  # fmt: skip
    axes.set_xlabel("noise level at sampling")
    axes.set_ylabel("reconstruction RMSE (lower is better)")
    finish(plot, "augmentation")
    return [
        *lines,
        "",
        "![Reconstruction RMSE over noise level](images/reproduction-augmentation.png)",
        "",
        f"Trained with augmentation better, each at its best level: **{gap.verdict}**, "
        f"reconstruction RMSE lower by {gap.value:.2f} +- {gap.half:.2f}.",
    ]


def efficient(section: Section, results: Results) -> list[str]:
    plot = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    axes = plot.add_subplot()
    lines = [
        "| | parameters | images | step, ms an image | minutes | held-out loss | "
        "reconstruction RMSE at noise level 0.1 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    curves, rmses = {}, {}
    for k, (name, about) in enumerate(section.models.items()):
        facts = results[name]
        seconds = results["image_seconds"][name]
        curves[name] = [(seconds * images / 60, loss) for images, loss in facts["validation"]]
        rmses[name] = next(p[RMSE] for p in facts["noise_levels"] if p["level"] == 0.1)
        axes.plot(*zip(*curves[name], strict=True), color=COLORS[k], marker=MARKS[k], label=about)
        lines.append(
            f"| {about} | {facts['parameters'] / 1e6:.2f}M | {facts['images']:,} | "
            f"{1000 * seconds:.1f} | {seconds * facts['images'] / 60:.1f} | "
            f"{curves[name][-1][1]:.5f} | "
            f"{rmses[name]['value']:.2f} +- {rmses[name]['error']:.2f} |"
        )
    axes.set_xlabel("minutes of training")
    axes.set_ylabel("loss on held-out scenes")
    axes.set_yscale("log")
    finish(plot, "efficient")
    ours, plain = (next(iter(c)) for c in (curves["augmented"], curves["plain"]))
    end = curves["plain"][-1]
    reached = next((m for m, loss in curves["augmented"] if loss <= end[1]), None)
    faster = plain[0] / ours[0]
    said = "it does not reach the plain one's last loss before it: **does not hold**"
    if reached is not None and reached < end[0]:
        said = (
            f"it reaches the plain one's last loss after {reached:.1f} of {end[0]:.1f} minutes: "
            "**holds**"
        )
    return [
        *lines,
        "",
        "![Loss over minutes](images/reproduction-efficient.png)",
        "",
        f"A training step of the Efficient U-Net is {faster:.2f} times as fast; {said}.",
        "",
        "Steps are timed in turns (medians), and minutes are images times that. Both networks fold "
        "4x4 pixels into one place. There the plain U-Net has its finest blocks, the Efficient "
        "U-Net one level below, at 8x8 pixels, as the paper shifts blocks to low resolutions: a "
        "likely reason for what it misses at this size.",
    ]


def plot_shapes(section: Section, results: Results, name: str) -> None:
    """Shares right by category with their intervals."""
    plot = Figure(figsize=(7.2, 4.0), dpi=150, layout="constrained")
    axes = plot.add_subplot()
    categories = list(results[next(iter(section.models))]["shapes"])
    for k, (model, about) in enumerate(section.models.items()):
        shares = [results[model]["shapes"][category] for category in categories]
        axes.errorbar(
            [place + 0.14 * (k - (len(section.models) - 1) / 2) for place in range(len(shares))],
            [100 * s["share"] for s in shares],
            yerr=[
                [100 * (s["share"] - s["low"]) for s in shares],
                [100 * (s["high"] - s["share"]) for s in shares],
            ],
            color=COLORS[k], marker=MARKS[k], linestyle="none", capsize=2, label=about,
        )  # fmt: skip
    axes.set_xticks(range(len(categories)), [c.replace("_", "\n") for c in categories])
    axes.set_ylabel("right (%)")
    axes.set_ylim(0, 102)
    finish(plot, name)


def finish(plot: Figure, name: str) -> None:
    axes = plot.axes[0]
    axes.grid(color="#000000", alpha=0.08)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    with atomic(PLOTS / f"reproduction-{name}.png") as temporary:
        plot.savefig(temporary, format="png")


SECTIONS = {
    "encoder": Section(
        "Frozen language model against one learned with the pictures; its size",
        "Frozen encoders that were trained on text alone serve well, and the larger the better "
        "(section 4.4, figure 4a). Here: MiniLM, its word vectors alone, and random word vectors. "
        "Over each lies the same one transformer layer that learns with the network, so over the "
        "random ones all language is learned from the captions.",
        {
            "sequence": "MiniLM, six layers",
            "words": "its word vectors",
            "untrained": "from scratch",
        },
        encoder,
    ),
    "size": Section(
        "Size of the text encoder against size of the U-Net",
        "A larger encoder gains more than a larger U-Net (figures 4a, 4b).",
        {
            "sequence": "six layers, 80 channels",
            "words": "word vectors, 80 channels",
            "narrow": "six layers, 48 channels",
        },
        sizes,
    ),
    "pooling": Section(
        "Attention over the text's sequence against one pooled vector",
        "Cross-attention over the sequence of embeddings is clearly better than pooling (appendix "
        "D.3.1, figure A.13a). Pooled here is by attention, the better of the paper's two.",
        {"sequence": "sequence", "pooled": "pooled vector alone"},
        pooling,
    ),
    "augmentation": Section(
        "Noise conditioning augmentation",
        "Super-resolution that has learned on noised low-resolution pictures, and is told how "
        "much, makes better pictures of a base's (section 2.4, figure A.32).",
        {"augmented": "with augmentation", "clean": "without"},
        augmentation,
    ),
    "efficient": Section(
        "The Efficient U-Net",
        "It converges faster than the plain U-Net and is two to three times as fast (appendix B.1, "
        "figure A.14).",
        {"augmented": "Efficient U-Net", "plain": "plain U-Net"},
        efficient,
        ("image_seconds",),
    ),
}


def write_page() -> None:
    """Write what has been measured; sections with a model missing say which."""
    results: Results = read_json(RESULTS) if RESULTS.is_file() else {}
    parts = [HEAD]
    for name, section in SECTIONS.items():
        parts.append(f"## {section.title}\n\n**The paper:** {section.claim}\n")
        if any(name not in results for name in (*section.models, *section.besides)):
            parts.append(f"Not measured yet: `python scripts/reproduce.py {name}`.\n")
            continue
        used = {results[model]["recipe"]: results[model] for model in section.models}
        how = "; ".join(
            f"`{recipe}.toml`, {one['images']:,} images" for recipe, one in used.items()
        )
        parts.append(f"**Here:** {how}; `python scripts/reproduce.py {name}`.\n")
        parts.append("\n".join(section.say(section, results)) + "\n")
    parts.append(THRESHOLDS)
    write_text(PAGE, "\n".join(parts))


THRESHOLDS = """## Dynamic thresholding over guidance weights

**The paper:** dynamic thresholding is much better than static or none at high weights (section 2.3,
figure A.8).

**Here:** on scenes-teacher after 900,000 images it **does not hold**: see
[the sweep](thresholding.md) of eight weights and three
thresholds, and a likely reason.
"""
