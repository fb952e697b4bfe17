"""The page of a comparison: one HTML file with numbers, intervals and images, nothing elsewhere."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from open_imagen.evaluation.comparison import CategoryTable, Comparison, MeasureRow
from open_imagen.evaluation.html_page import page
from open_imagen.evaluation.human.report import STYLE as RATINGS_STYLE
from open_imagen.evaluation.human.report import pair_bars, wording
from open_imagen.evaluation.image_set import read_image
from open_imagen.evaluation.intervals import Interval
from open_imagen.storage import write_text

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of systems, told apart also by colour-blind readers; from the seventh on they come again."""
LARGEST = 224
"""Sides of embedded images in pixels; larger ones are scaled down."""
STYLE = """
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
.scroll td:first-child, .scroll th:first-child { position: sticky; left: 0; background: Canvas;
  min-width: 8rem; max-width: 18rem; white-space: normal; overflow-wrap: anywhere; }
td, th { white-space: nowrap; } td small { opacity: .7; } td.best { font-weight: 700; }
.dot { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%; flex: none;
  margin-right: .35rem; }
.systems { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; list-style: none; padding: 0; }
.chart { display: grid; grid-template-columns: minmax(8rem, 14rem) 1fr; gap: .1rem 1rem;
  align-items: center; margin: 1rem 0; }
.chart > span { text-align: right; font-size: .9rem; overflow-wrap: anywhere; }
.track { position: relative; border-left: 1px solid var(--line); margin: .25rem 0;
  background: repeating-linear-gradient(90deg, transparent 0 calc(25% - 1px),
  var(--line) calc(25% - 1px) 25%); }
.mark { position: relative; height: .8rem; }
.mark i { position: absolute; top: .35rem; height: .12rem; min-width: 2px; }
.mark b { position: absolute; top: .12rem; width: .55rem; height: .55rem; margin-left: -.28rem;
  border-radius: 50%; }
.axis { display: flex; justify-content: space-between; font-size: .75rem; opacity: .7; }
.gallery { display: grid; grid-template-columns: repeat(var(--n), minmax(0, 1fr)); gap: .75rem;
  align-items: end; }
.gallery > div > small { display: flex; align-items: center; overflow-wrap: anywhere;
  line-height: 1.2; margin-bottom: .25rem; }
.gallery .pictures { display: flex; flex-wrap: wrap; gap: .3rem; }
.gallery img { width: 100%; height: auto; max-width: 14rem; border-radius: 6px; display: block; }
.gallery .pictures img { flex: 1 1 4.5rem; min-width: 0; }
img.pixels { image-rendering: pixelated; }
@media (max-width: 40rem) { body { padding: 1rem; } .chart { grid-template-columns: 1fr; }
  .chart > span { text-align: left; } td, th { padding: .3rem .4rem; font-size: .85rem; }
  .scroll td:first-child, .scroll th:first-child { min-width: 6rem; max-width: 7.5rem; }
  h1 { font-size: 1.3rem; } }
"""


def write_comparison(
    found: Comparison, out: Path, title: str = "Comparison", examples: int = 2, images: int = 2
) -> None:
    """Write the page.

    Args:
        examples: prompts of each category whose images are shown.
        images: shown of each prompt and system.
    """
    colors = {name: COLORS[k % len(COLORS)] for k, name in enumerate(found.systems)}
    first = next(iter(found.systems.values()))
    assert first.run is not None
    width, height = found.image_size
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="about">{first.run["prompts"]["count"]} prompts of '
        f"{html.escape(str(first.run['prompts'].get('suite', 'a suite')))}, "
        f"{first.run['images_per_prompt']} images each, {width}x{height} pixels. Brackets are "
        "95 % intervals; bold is the best value.</p>",
        f'<ul class="systems">{"".join(_system(name, colors) for name in found.systems)}</ul>',
        "<h2>Numbers</h2>",
        _numbers(found.measures, list(found.systems), colors),
    ]
    for table in found.categories:
        parts.append(f"<h2>{html.escape(table.title)}</h2>")
        parts.append(_chart(table, colors))
        parts.append(_differences(table, next(iter(found.systems))))
    if found.ratings is not None:
        parts.append(_ratings(found.ratings))
    parts += ["<h2>Time and cost</h2>", _timings(found, colors)]
    parts += ["<h2>Images</h2>", *_gallery(found, colors, examples, images)]
    parts += ["<h2>How this was made</h2>", _records(found)]
    style = RATINGS_STYLE + STYLE
    write_text(out, page(title, "\n".join(parts), style))


def _dot(color: str) -> str:
    return f'<span class="dot" style="background:{color}"></span>'


def _system(name: str, colors: Mapping[str, str]) -> str:
    return f"<li>{_dot(colors[name])}{html.escape(name)}</li>"


def _head(systems: Sequence[str], colors: Mapping[str, str], first: str = "") -> str:
    cells = "".join(f"<th>{_dot(colors[name])}{html.escape(name)}</th>" for name in systems)
    return f"<tr><th>{first}</th>{cells}</tr>"


def _numbers(rows: Sequence[MeasureRow], systems: Sequence[str], colors: Mapping[str, str]) -> str:
    if not rows:
        return (
            "<p>No numbers yet. <code>imagen evaluate measure RUN</code> and "
            "<code>imagen evaluate judge RUN</code> write records; give their folder as "
            "<code>--scores</code>.</p>"
        )
    lines = [_head(systems, colors, "higher (&uarr;) or lower (&darr;) is better")]
    notes = []
    for row in rows:
        arrow = "&uarr;" if row.higher_is_better else "&darr;"
        pick = max if row.higher_is_better else min
        best = pick(float(one["value"]) for one in row.values.values())
        cells = [_cell(row.values.get(name), best) for name in systems]
        lines.append(f"<tr><td>{html.escape(row.label)} {arrow}</td>{''.join(cells)}</tr>")
        if row.note:
            notes.append(f"{html.escape(row.label)} may stand beside {html.escape(row.note)}")
        accuracy = next((o["accuracy"] for o in row.values.values() if "accuracy" in o), None)
        if accuracy is not None and "accuracy" in accuracy:
            one = accuracy["accuracy"]
            notes.append(
                f"{html.escape(row.label)} is right on {one['value']:.1%} of {one['of']} exact "
                f"scenes of {html.escape(str(accuracy.get('world', '')))} "
                f"[{one['low']:.1%}, {one['high']:.1%}]."
            )
    table = f'<div class="scroll"><table>{"".join(lines)}</table></div>'
    return table + "".join(f'<p class="about">{note}</p>' for note in notes)


def _cell(one: Mapping[str, Any] | None, best: float) -> str:
    if one is None:
        return "<td>-</td>"
    kind = ' class="best"' if float(one["value"]) == best else ""
    few = " (too few images)" if one.get("details", {}).get("too_few_images") else ""
    return f"<td{kind}>{_short(one['value'])} <small>{_bounds(one)}{few}</small></td>"


def _bounds(one: Mapping[str, Any]) -> str:
    if one["low"] != one["low"]:
        return "[unknown]"
    return f"[{_short(one['low'])}, {_short(one['high'])}]"


def _short(value: float) -> str:
    """Three or four digits, whatever the scale.

    >>> _short(43.2109), _short(0.012345), _short(1234.5), _short(0)
    ('43.2', '0.0123', '1234', '0')
    """
    size = abs(value)
    if not size:
        return "0"
    digits = 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 1 else 4
    return f"{value:.{digits}f}"


def _chart(table: CategoryTable, colors: Mapping[str, str]) -> str:
    """A row for each category, a dot with its interval for each system."""
    every = [one for row in table.rows.values() for one in row.values()]
    percent = all(one.low >= -1e-9 and one.high <= 100 + 1e-9 for one in every)
    low = 0.0 if percent else min(one.low for one in every)
    high = 100.0 if percent else max(one.high for one in every)
    span = (high - low) or 1.0

    def mark(name: str, one: Interval) -> str:
        left, right, middle = (100 * (v - low) / span for v in (one.low, one.high, one.value))
        label = f"{html.escape(name)}: {_short(one.value)} [{_short(one.low)}, {_short(one.high)}]"
        return (
            f'<div class="mark" role="img" title="{label}" aria-label="{label}">'
            f'<i style="left:{left:.2f}%;width:{right - left:.2f}%;background:{colors[name]}"></i>'
            f'<b style="left:{middle:.2f}%;background:{colors[name]}"></b></div>'
        )

    lines = []
    for category, row in table.rows.items():
        marks = "".join(mark(name, one) for name, one in row.items())
        lines.append(f'<span>{html.escape(category or "-")}</span><div class="track">{marks}</div>')
    ticks = "".join(f"<span>{_short(low + span * k / 4)}</span>" for k in range(5))
    lines.append(f'<span></span><div class="axis">{ticks}</div>')
    return f'<div class="chart">{"".join(lines)}</div>'


def _differences(table: CategoryTable, first: str) -> str:
    if not table.differences:
        return ""
    others = list(next(iter(table.differences.values())))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in others)
    lines = [f"<tr><th>points more than {html.escape(first)}, prompt by prompt</th>{head}</tr>"]
    for category, row in table.differences.items():
        cells = "".join(
            f"<td>{one.value:+.1f} <small>[{one.low:+.1f}, {one.high:+.1f}]</small></td>"
            for one in row.values()
        )
        lines.append(f"<tr><td>{html.escape(category)}</td>{cells}</tr>")
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def _ratings(found: Mapping[str, Any]) -> str:
    parts = [
        "<h2>Ratings by people</h2>",
        f'<p class="about">{html.escape(str(found["protocol"]))} protocol, '
        f"{found['votes_counted']} votes of {found['raters'] - len(found['raters_left_out'])} "
        f"raters, {len(found['raters_left_out'])} left out.</p>",
    ]
    for name, question in found["questions"].items():
        parts.append(f"<h3>{html.escape(wording(name))}</h3>")
        parts += [pair_bars(pair) for pair in question.get("pairs", {}).values()]
        for system, one in question.get("systems", {}).items():
            parts.append(f"<p>{html.escape(system)}: {_short(one['value'])} {_bounds(one)}</p>")
    return "\n".join(parts)


def _timings(found: Comparison, colors: Mapping[str, str]) -> str:
    names = list(found.systems)
    lines = [_head(names, colors)]
    known = {name: timing for name, timing in found.timings.items() if timing is not None}
    rows: dict[str, dict[str, str]] = {
        "seconds per image": {n: _short(t.seconds / t.images) for n, t in known.items()},
        "images timed": {n: f"{t.images:,}" for n, t in known.items()},
        "made on": {n: html.escape("; ".join(t.devices)) for n, t in known.items()},
        "price of an hour": {n: f"{found.prices[n]:.2f}" for n in found.prices},
        "cost of 1,000 images": {
            n: f"{1000 * t.seconds / t.images / 3600 * found.prices[n]:.3f}"
            for n, t in known.items()
            if n in found.prices
        },
    }
    for label, cells in rows.items():
        if cells:
            line = "".join(f"<td>{cells.get(name, '-')}</td>" for name in names)
            lines.append(f"<tr><td>{label}</td>{line}</tr>")
    if len(lines) == 1:
        return "<p>Nothing is known: runs of copied images take no time of a model.</p>"
    note = ""
    if not found.prices:
        note = '<p class="about">Give --price to see costs.</p>'
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>{note}'


def _gallery(found: Comparison, colors: Mapping[str, str], examples: int, images: int) -> list[str]:
    first = next(iter(found.systems.values()))
    assert first.run is not None
    assert first.metadata is not None
    each = int(first.run["images_per_prompt"])
    by_category: dict[str, list[int]] = {}
    for p in range(first.run["prompts"]["count"]):
        row = first.metadata[p * each]
        by_category.setdefault(str(row.get("category", row.get("tag", ""))), []).append(p)
    parts = []
    for category, prompts in by_category.items():
        if examples:
            parts.append(f"<h3>{html.escape(category)}</h3>")
        for p in prompts[:examples]:
            prompt = str(first.metadata[p * each]["prompt"])
            columns = []
            for name, some in found.systems.items():
                shown = "".join(
                    _picture(some.files[p * each + i], f"image {i + 1} of {name}: {prompt}")
                    for i in range(min(images, each))
                )
                columns.append(
                    f"<div><small>{_dot(colors[name])}{html.escape(name)}</small>"
                    f'<div class="pictures">{shown}</div></div>'
                )
            parts.append(
                f"<figure><figcaption>{html.escape(prompt)}</figcaption>"
                f'<div class="gallery" style="--n:{len(found.systems)}">{"".join(columns)}</div>'
                "</figure>"
            )
    return parts


def _picture(file: Path, words: str) -> str:
    image = read_image(file)
    small = max(image.size) <= 64
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "WEBP", lossless=small, quality=85)
    text = base64.b64encode(data.getvalue()).decode()
    kind = ' class="pixels"' if small else ""
    return (
        f'<img{kind} alt="{html.escape(words)}" width="{image.width}" height="{image.height}" '
        f'src="data:image/webp;base64,{text}">'
    )


def _records(found: Comparison) -> str:
    runs = {name: images.run for name, images in found.systems.items()}
    records = [
        {key: value for key, value in record.items() if key != "per_image"}
        for record in found.records
    ]
    parts = []
    for title, value in (("Runs", runs), ("Records of the numbers", records)):
        text = html.escape(json.dumps(value, indent=2, ensure_ascii=False))
        parts.append(f"<details><summary>{title}</summary><pre>{text}</pre></details>")
    return "\n".join(parts)
