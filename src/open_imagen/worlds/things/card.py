"""The model card of a model of this world: what was measured, as Markdown; nothing by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from open_imagen.worlds.things.atlas import Atlas
from open_imagen.worlds.things.catalog import MAIN_GROUPS
from open_imagen.worlds.things.likeness import SIDE
from open_imagen.worlds.things.sources import SOURCES
from open_imagen.worlds.things.suite import CATEGORIES

SHEET, RECORD = "card/samples.webp", "card/likeness.json"
"""Where the card's image and figures lie in the model folder."""
WEAK = 0.8
"""Categories with a smaller share right are named among the limits."""


@dataclass(frozen=True)
class CardFacts:
    """What a card is made of.

    Attributes:
        header: cascade.json.
        parameters: of each stage.
        adapters: named ones by stage: name, parameters, trained, sampling.
        atlas: the art.
        likeness: of `card_likeness.measure_likeness`.
        suite: report.json of `imagen evaluate things`.
        labels: of scripts/label_images.py: the judge's agreement with blind labels.
        drawbench: reports of the model and of baselines on DrawBench's prompts.
    """

    header: Mapping[str, Any]
    parameters: Mapping[str, int]
    atlas: Atlas
    likeness: Mapping[str, Any]
    suite: Mapping[str, Any] | None = None
    labels: Mapping[str, Any] | None = None
    drawbench: Sequence[Mapping[str, Any]] = ()
    adapters: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


def card(facts: CardFacts) -> str:
    """The card as Markdown, with the header that model hubs read."""
    parts = [
        _front_matter(),
        *_about(facts),
        *_stages(facts),
        *_art(facts),
        *_likeness(facts),
        *_suite(facts),
        *_drawbench(facts),
        *_limits(facts),
        "## Licence\n\nThe weights: Apache-2.0. Images may be copies of the art they were learned "
        "from, which "
        "is under the licences above.",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter() -> str:
    tags = "\n".join(f"  - {tag}" for tag in ("pixel-diffusion", "emoji", "transparent-background"))
    return (
        "---\nlicense: apache-2.0\nlibrary_name: open-imagen\npipeline_tag: text-to-image\n"
        f"language: en\ntags:\n{tags}\n---"
    )


def _about(facts: CardFacts) -> list[str]:
    header, things = facts.header, facts.atlas.things
    main = sum(thing.group in MAIN_GROUPS for thing in things)
    return [
        f"# Model card: {header['name']}",
        f"A cascade of diffusion models in pixel space that draws {len(things):,} things as emoji "
        "art "
        f"draws them ({main:,} animals, foods, places, activities and objects; smileys, hearts and "
        "people): with a color, a number, a place, a style, a ground or a word on a sign. Images "
        "have "
        "an alpha channel.",
        "```python\nimport open_imagen as oi\n\n"
        f'made = oi.load("{header["name"]}").generate(["a red apple to the left of a cat"])\n'
        'made.save("out")\n```',
        f"Stages: {', '.join(header['stages'])}. Text encoder: "
        f"{header['encoder']}, frozen, not in this folder.",
    ]


def _stages(facts: CardFacts) -> list[str]:
    lines = [
        "| stage | parameters | learned from | examples | hours | sampling |",
        "|---|---:|---|---:|---:|---|",
    ]
    for name in facts.header["stages"]:
        trained = facts.header.get("trained", {}).get(name, {})
        sampling = facts.header["defaults"].get(name, {})
        lines.append(_stage_row(name, facts.parameters[name], trained, sampling))
        for adapter in facts.adapters.get(name, ()):
            title = f"{name}, adapter {adapter['name']}"
            lines.append(
                _stage_row(title, adapter["parameters"], adapter["trained"], adapter["sampling"])
            )
    parts = ["## Stages", "\n".join(lines)]
    if facts.adapters:
        parts.append("Adapters are used by default; `--undistilled` samples the stage without.")
    return parts


def _stage_row(
    title: str, parameters: int, trained: Mapping[str, Any], sampling: Mapping[str, Any]
) -> str:
    how = f"{sampling.get('steps')} steps, {sampling.get('sampler')}"
    how += f", guidance {sampling.get('guidance', 1.0):g}"
    runs = trained.get("parts", [trained])
    hours = sum(run.get("hours", 0.0) for run in runs)
    examples = " + ".join(_examples(run) for run in runs)
    return f"| {title} | {parameters:,} | {_learned(trained)} | {examples} | {hours:.2f} | {how} |"


def _learned(trained: Mapping[str, Any]) -> str:
    data = trained.get("data", {})
    text = f"scenes of {data.get('kind', '?')} at {data.get('size', '?')} pixels"
    if data.get("crop"):
        text += f", crops of {data['crop']}"
    if distill := trained.get("distill"):
        text += (
            f"; distilled with guidance {distill['guidance']:g} from {run_of(distill['teacher'])}"
        )
    elif init := trained.get("init"):
        text += f"; from the weights of {run_of(init)}"
    if "sigma_rel" in trained:
        text += f"; average of relative length {trained['sigma_rel']}"
    return text


def run_of(model: str) -> str:
    """The name of a run or model by the path of its folder.

    >>> run_of("runs/things-base/model")
    'things-base'
    """
    parts = [part for part in model.split("/") if part not in ("model", "adapter", "")]
    return parts[-1] if parts else model


def _examples(trained: Mapping[str, Any]) -> str:
    if "images" not in trained:
        return "?"
    seen = f"{trained['images']:,}"
    return f"{seen} of {trained['of']:,} (not complete)" if "of" in trained else seen


def _art(facts: CardFacts) -> list[str]:
    known = {source.package: source for source in SOURCES}
    lines = ["| style | package | maker | licence of the art |", "|---|---|---|---|"]
    for source in facts.atlas.sources:
        maker = known[source["package"]].maker if source["package"] in known else ""
        style = source["style"] or "names"
        lines.append(
            f"| {style} | {source['package']} {source['version']} | {maker} | {source['licence']} |"
        )
    return [
        "## Art",
        f"{len(facts.atlas.sprites):,} sprites, composed into scenes whose truth is known; no "
        "photographs.",
        "\n".join(lines),
        "Texts of these licences and what was left out: THIRD_PARTY_ART.md of the project.",
    ]


def _likeness(facts: CardFacts) -> list[str]:
    record = facts.likeness
    samples, config = record["samples"], record["config"]
    shown = len(samples) - record["nothing_shown"]
    lines = ["| distance below | " + " | ".join(record["near_copies"]) + " | median |"]
    lines.append("|---|" + "---:|" * (len(record["near_copies"]) + 1))
    for title, part in (
        (f"{shown} samples of the model", record),
        (f"{config['references']} exact drawings of sprites", record["exact"]),
        ("sprites and the nearest sprite of another thing", record["other_things"]),
    ):
        shares = " | ".join(f"{share:.1%}" for share in part["near_copies"].values())
        lines.append(f"| {title} | {shares} | {part['median']:.3f} |")
    diverse, art = record["diversity"], record["art_diversity"]
    return [
        "## Likeness to the art",
        f"The first {len(samples)} prompts of things by label (seed {config['seed']}), one image "
        "each, "
        "none chosen, each beside its nearest sprite.",
        f"![Samples and their nearest sprites]({SHEET})",
        "Distance: the objects of an image are cut out of their ground, scaled so that the longer "
        "side "
        "fills a square, and compared with every sprite, as it is and mirrored: the root mean "
        "square "
        f"of the difference of premultiplied RGBA (0 to 1) at {SIDE}x{SIDE} pixels. Share of "
        "near-copies:",
        "\n".join(lines),
        f"Diversity over {config['seeds']} seeds of {config['diverse_prompts']} of these prompts: "
        "two images "
        f"of a prompt are {diverse['distance']:.3f} apart on average ({diverse['sprites']:.1f} "
        "different "
        f"nearest sprites), two sprites of the same things {art['distance']:.3f} "
        f"({art['sprites']:.1f} sprites)."
        + (
            f" {record['nothing_shown']} of the samples show nothing on their ground."
            if record["nothing_shown"]
            else ""
        ),
    ]


def _suite(facts: CardFacts) -> list[str]:
    if facts.suite is None:
        return ["## Suite", "Not measured yet (`imagen evaluate things`)."]
    report = facts.suite
    lines = [
        "| category | right | of | 95 % interval | exact drawings that the judge accepts |",
        "|---|---:|---:|---|---:|",
    ]
    for name, row in report["categories"].items():
        lines.append(_suite_row(f"{name}: {CATEGORIES.get(name, '')}", row))
        if row.get("of_present"):
            lines.append(_suite_row(f"{name}, of those with all things there", row["of_present"]))
    parts = [
        "## Suite",
        f"`imagen evaluate things --count {report['count']} --seed {report['seed']}`, "
        f"{report.get('stages', '?')} stages, default settings, model {report['model_hash']}; "
        "nothing was chosen on these prompts. What the judge cannot tell counts as wrong.",
        "\n".join(lines),
    ]
    if facts.labels is not None:
        parts.append(_labels(facts.labels))
    return parts


def _suite_row(title: str, row: Mapping[str, Any]) -> str:
    judge = row.get("judge")
    accepted = f"{judge['accepted']:.1%}" if judge else ""
    interval = f"{row['low']:.1%} to {row['high']:.1%}"
    return f"| {title} | {row['share']:.1%} | {row['of']} | {interval} | {accepted} |"


def _labels(labels: Mapping[str, Any]) -> str:
    said = []
    for kind, row in labels.items():
        said.append(
            f"{row['share']:.1%} of {row['of']} {kind} ({row['low']:.1%} to {row['high']:.1%})"
        )
    return (
        "The judge agrees with labels that the maintainers gave without seeing prompts, on "
        + " and ".join(said)
        + "."
    )


def _drawbench(facts: CardFacts) -> list[str]:
    if not facts.drawbench:
        return []
    names = list(dict.fromkeys(n for report in facts.drawbench for n in report["categories"]))
    lines = [
        "| category | prompts judged | " + " | ".join(r["model"] for r in facts.drawbench) + " |",
        "|---|---:|" + "---:|" * len(facts.drawbench),
    ]
    for name in names:
        rows = [report["categories"].get(name) for report in facts.drawbench]
        of = next(row["of"] for row in rows if row)
        cells = [
            f"{row['right']} ({row['low']:.0%} to {row['high']:.0%})" if row else "" for row in rows
        ]
        lines.append(f"| {name} | {of} | {' | '.join(cells)} |")
    return [
        "## DrawBench",
        "Prompts of DrawBench's categories whose things the model knows, by the judge; right, and "
        "the "
        "95 % interval. `nearest-sprite` shows the sprite whose label is nearest to the prompt.",
        "\n".join(lines),
    ]


def _limits(facts: CardFacts) -> list[str]:
    limits = [
        f"It knows {len(facts.atlas.things):,} things. Of anything else it draws something that "
        "the text "
        "encoder takes for near, or nothing; a hint names the nearest words that it knows.",
        "It reads English. Prompts in Chinese are translated by rules, names in other languages by "
        "a "
        "glossary; what was read is said.",
        "It draws emoji art, no photographs, and may reproduce sprites closely (above).",
        "People are drawn in the styles, genders and skin tones of the art; where a prompt names "
        "none, "
        "the shares are those of the art and may be amplified.",
    ]
    incomplete = [
        name for name, one in facts.header.get("trained", {}).items() if one.get("of") is not None
    ]
    if incomplete:
        limits.append(f"Training is not complete: {', '.join(incomplete)}.")
    if facts.suite is not None:
        weak = [
            f"{CATEGORIES.get(name, name)} ({row['share']:.0%})"
            for name, row in facts.suite["categories"].items()
            if row["share"] < WEAK
        ]
        if weak:
            limits.append(f"Right in less than {WEAK:.0%}: {'; '.join(weak)}.")
    if facts.labels is None:
        limits.append("The judge has not been held to labels of generated images yet.")
    return ["## Limits", "\n".join(f"- {limit}" for limit in limits)]
