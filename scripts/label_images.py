"""Label generated images without seeing their prompts, and hold the judge to the labels.

    imagen evaluate things --model MODEL --out EVALUATION
    python scripts/label_images.py sheet EVALUATION --kind things --out LABELS
    python scripts/label_images.py agree EVALUATION LABELS/things.csv [LABELS/signs.csv] --out FILE

`sheet` draws a random sample: numbered contact sheets without prompts, a form to type into
(things.html, which saves things.csv), and an empty things.csv to fill in by hand. Its columns are
number, image (a hash that tells nothing of the prompt) and label. Labels of things: what is seen,
several objects with commas, names that would do as well with "/" ("cat face/cat"), "3 dog" for
three, nothing where nothing can be told. Labels of signs: the letters that are seen, "?" for one
that cannot be read.
"""

import argparse
import csv
import html
import io
import json
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from open_imagen.errors import ConfigError, DataError, OpenImagenError
from open_imagen.evaluation.intervals import wilson
from open_imagen.evaluation.metrics.scores import digest
from open_imagen.storage import atomic, read_json, write_json, write_text
from open_imagen.worlds.things.judge_network import load_classifier, packaged_judge

KINDS = {
    "things": (
        *("label", "tag", "held_out_tag", "color", "held_out_color", "style", "held_out_style"),
        *("counting", "place", "held_out_place", "two_things", "held_out_pair", "size", "ground"),
    ),
    "signs": ("shown_words", "unseen_words"),
}
"""What is labelled, and the categories of the suite that it is drawn from."""
COLUMNS = ("number", "image", "label")
SIDE, ACROSS, DOWN = 192, 5, 4


class Row(NamedTuple):
    """An image of an evaluation with its judgement."""

    path: Path
    judgement: Mapping[str, Any]


def read_judgements(evaluation: Path, kind: str) -> dict[str, Row]:
    """The judgements of a kind by a hash of what their images depend on.

    Raises:
        DataError: the folder has none, or several judges'.
    """
    files = sorted(evaluation.glob("judgements-*.jsonl"))
    if len(files) != 1:
        raise DataError(
            f"{evaluation} has judgements of {len(files)} judges; one is needed.",
            "Make it with: imagen evaluate things --out DIR",
        )
    run, rows = read_json(evaluation / "run.json"), {}
    for line in files[0].read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["category"] in KINDS[kind]:
            name = digest([run, row["category"], row["k"], row["prompt"]])[:12]
            path = evaluation / "images" / row["category"] / f"{row['k']:05}.png"
            rows[name] = Row(path, row)
    if not rows:
        raise DataError(
            f"{evaluation} has no images of the categories {', '.join(KINDS[kind])}.",
            "Evaluate these, or choose another --kind.",
        )
    return rows


def sample(rows: Mapping[str, Row], count: int, seed: int) -> list[str]:
    """Some images at random, in random order."""
    if count < 1:
        raise ConfigError(f"--count {count} must be at least 1.")
    return random.Random(f"labels {seed}").sample(sorted(rows), min(count, len(rows)))


def write_sheets(
    rows: Mapping[str, Row], images: Sequence[str], kind: str, out: Path
) -> list[Path]:
    """Contact sheets, the form and the empty table; nothing that is there is overwritten.

    Raises:
        ConfigError: there are labels already.
    """
    table = out / f"{kind}.csv"
    if table.exists():
        raise ConfigError(f"{table} is there already.", "Choose another --out, or move it away.")
    paths = []
    per_sheet = ACROSS * DOWN
    for start in range(0, len(images), per_sheet):
        part = images[start : start + per_sheet]
        sheet = _sheet([rows[image].path for image in part], start + 1)
        path = out / f"{kind}-{start // per_sheet + 1:02}.png"
        with atomic(path) as temporary:
            sheet.save(temporary, "PNG")
        paths.append(path)
    write_text(out / f"{kind}.html", form(kind, images, [path.name for path in paths]))
    write_text(table, to_csv([(k + 1, image, "") for k, image in enumerate(images)]))
    return paths


def _sheet(paths: Sequence[Path], first: int) -> Image.Image:
    """Numbered images on a checkered ground, which shows transparency."""
    height = SIDE + 22
    lines = -(-len(paths) // ACROSS)
    sheet = Image.new("RGB", (ACROSS * (SIDE + 8), lines * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for k, path in enumerate(paths):
        left, top = k % ACROSS * (SIDE + 8), k // ACROSS * height
        draw.text((left + 2, top + 1), str(first + k), "black", font)
        with Image.open(path) as image:
            small = image.convert("RGBA").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        ground = _checkers()
        ground.paste(small, mask=small)
        sheet.paste(ground, (left, top + 20))
    return sheet


def _checkers(square: int = 12) -> Image.Image:
    side = SIDE // square
    small = Image.new("L", (side, side))
    small.putdata([255 if (k // side + k % side) % 2 else 236 for k in range(side * side)])
    return small.resize((SIDE, SIDE), Image.Resampling.NEAREST).convert("RGB")


def to_csv(rows: Sequence[Sequence[object]]) -> str:
    """A table of labels."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue()


def read_labels(path: Path) -> dict[str, str]:
    """Labels by image.

    Raises:
        DataError: it cannot be read, lacks a column, or names an image twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if missing := set(COLUMNS) - set(reader.fieldnames or ()):
                raise DataError(f"{path} has no column {', '.join(sorted(missing))}.")
            rows = list(reader)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    twice = [name for name, times in Counter(row["image"] for row in rows).items() if times > 1]
    if twice:
        raise DataError(f"{path} has several labels of {twice[0]}.")
    return {row["image"]: (row["label"] or "").strip() for row in rows}


def seen_objects(label: str, known: frozenset[str]) -> list[frozenset[str]]:
    """The objects of a label: of each, the names that it may have.

    >>> [sorted(names) for names in seen_objects("2 dog, cat face/cat", frozenset({"dog"}))]
    [['dog'], ['dog'], ['cat', 'cat face']]
    """
    found = []
    for part in filter(None, (part.strip().lower() for part in label.split(","))):
        head, _, rest = part.partition(" ")
        # A label may begin with a number itself: "8 ball".
        times, name = (int(head), rest) if head.isdigit() and part not in known else (1, part)
        found += [frozenset(one.strip() for one in name.split("/"))] * times
    return found


def things_agree(label: str, judgement: Mapping[str, Any], known: frozenset[str]) -> bool:
    """Whether the judge names the objects that the label names, no more and no fewer.

    What the judge is not sure of must be something that the label cannot tell either.
    """
    left = seen_objects(label, known)
    for name in sorted(one["name"] for one in judgement["found"] if one["name"]):
        fitting = next((names for names in left if name in names), None)
        if fitting is None:
            return False
        left.remove(fitting)
    return not left


def signs_agree(label: str, judgement: Mapping[str, Any], asked: str) -> bool:
    """Whether label and reader say the same: that the sign reads as asked, or that it does not."""
    return (label.replace(" ", "").upper() == asked.upper()) == bool(judgement["right"])


def agreement(
    labels: Mapping[str, str], rows: Mapping[str, Row], kind: str, known: frozenset[str]
) -> dict[str, Any]:
    """The share of images on which judge and labels agree, with its 95 % interval."""
    verdicts = {}
    for image, label in labels.items():
        judgement = rows[image].judgement
        if kind == "signs":
            asked = asked_word(judgement["prompt"])
            verdicts[image] = signs_agree(label, judgement, asked)
        else:
            verdicts[image] = things_agree(label, judgement, known)
    right = sum(verdicts.values())
    low, high = wilson(right, len(verdicts))
    return {
        "right": right,
        "of": len(verdicts),
        "share": right / len(verdicts),
        "low": low,
        "high": high,
        "differ": [
            {"image": image, "label": labels[image], "prompt": rows[image].judgement["prompt"]}
            for image, same in verdicts.items()
            if not same
        ],
    }


def asked_word(prompt: str) -> str:
    """The word between the quotes of a prompt.

    >>> asked_word('a sign that says "OPEN"')
    'OPEN'
    """
    straight = prompt.translate({0x201C: '"', 0x201D: '"', 0x2018: "'", 0x2019: "'"})
    for mark in "\"'":
        if straight.count(mark) >= 2:
            return straight.split(mark)[1]
    return ""


def kind_of(labels: Mapping[str, str], rows: Mapping[str, Mapping[str, Row]]) -> str:
    """What a table labels: the kind that has all its images.

    Raises:
        DataError: it is empty, or of another evaluation.
    """
    for kind, known in rows.items():
        if labels and labels.keys() <= known.keys():
            return kind
    raise DataError(
        "The labels are of images that this evaluation does not have.",
        "Label a sample of the same model, seed and settings.",
    )


def form(kind: str, images: Sequence[str], sheets: Sequence[str]) -> str:
    """A page with the sheets and a field for each image, which saves the table."""
    fields = [
        f'<label>{k + 1} <input data-image="{image}" list="names"></label>'
        for k, image in enumerate(images)
    ]
    names = load_classifier(packaged_judge()).labels.things if kind == "things" else ()
    options = "".join(f"<option>{html.escape(name)}</option>" for name in names)
    per_sheet, parts = ACROSS * DOWN, []
    for k, sheet in enumerate(sheets):
        some = "".join(fields[k * per_sheet : (k + 1) * per_sheet])
        parts.append(f'<section><img src="{html.escape(sheet)}" alt="sheet {k + 1}">{some}')
        parts.append("</section>")
    return FORM.format(kind=kind, body="".join(parts), options=options)


FORM = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Labels of {kind}</title>
<style>
body {{ font: 15px system-ui; margin: 1rem }} img {{ max-width: 100%; display: block }}
section {{ margin-bottom: 2rem }} label {{ display: inline-block; width: 19%; margin: 2px 0 }}
input {{ width: 75% }} button {{ position: fixed; right: 1rem; bottom: 1rem; padding: .5rem 1rem }}
</style>
<h1>What do you see?</h1>
<p>Things: a name, several with commas, "3 dog" for three; other names that would do after "/".
Signs: the
letters you see, "?" for one that cannot be read. Leave empty what you cannot tell.</p>
<button>Save {kind}.csv</button><datalist id="names">{options}</datalist>{body}
<script>
const fields = [...document.querySelectorAll("input")], key = "labels-{kind}";
const kept = JSON.parse(localStorage.getItem(key) || "{{}}");
for (const one of fields) {{
  one.value = kept[one.dataset.image] || "";
  one.oninput = () => {{ kept[one.dataset.image] = one.value;
    localStorage.setItem(key, JSON.stringify(kept)); }};
}}
const quoted = text => '"' + text.replaceAll('"', '""') + '"';
document.querySelector("button").onclick = () => {{
  const lines = fields.map((one, k) => `${{k + 1}},${{one.dataset.image}},${{quoted(one.value)}}`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["number,image,label\\n" + lines.join("\\n") + "\\n"]));
  link.download = "{kind}.csv"; link.click();
}};
</script></html>
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    sheet = commands.add_parser("sheet", help="draw a sample to label")
    sheet.add_argument("evaluation", type=Path)
    sheet.add_argument("--kind", choices=KINDS, default="things")
    sheet.add_argument("--count", type=int, default=200)
    sheet.add_argument("--seed", type=int, default=1)
    sheet.add_argument("--out", type=Path, required=True)
    agree = commands.add_parser("agree", help="compare the judge with labels")
    agree.add_argument("evaluation", type=Path)
    agree.add_argument("labels", type=Path, nargs="+")
    agree.add_argument("--out", type=Path, help="write the figures there, for the model card")
    options = parser.parse_args(arguments)
    try:
        if options.command == "sheet":
            rows = read_judgements(options.evaluation, options.kind)
            images = sample(rows, options.count, options.seed)
            for path in write_sheets(rows, images, options.kind, options.out):
                print(path)
            return 0
        found, by_kind = {}, {}
        for kind in KINDS:
            with suppress(DataError):
                by_kind[kind] = read_judgements(options.evaluation, kind)
        known = frozenset(load_classifier(packaged_judge()).labels.things)
        for path in options.labels:
            labels = read_labels(path)
            kind = kind_of(labels, by_kind)
            found[kind] = agreement(labels, by_kind[kind], kind, known)
    except OpenImagenError as error:
        print(f"error: {error}", error.hint, sep="\n", file=sys.stderr)
        return 1
    for kind, row in found.items():
        interval = f"{row['low']:.1%} to {row['high']:.1%}"
        print(f"{kind}: {row['right']} of {row['of']} agree, {row['share']:.1%} ({interval})")
        for one in row["differ"]:
            print(f"  differs: {one['image']}, label {one['label']!r}, prompt {one['prompt']!r}")
    if options.out:
        write_json(options.out, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
