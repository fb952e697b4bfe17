"""Figures of sweeps: points and their Pareto front, as in the paper's; a PNG and a page."""

import html
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from open_imagen.errors import MissingDependency, install_hint
from open_imagen.evaluation.html_page import page
from open_imagen.evaluation.sweeps.sweep import pareto
from open_imagen.storage import atomic, write_text

COLORS = ("#2563eb", "#d97706", "#059669", "#c026d3", "#dc2626", "#0891b2", "#65a30d", "#7c3aed")
MARKS = "osD^vPX*"
GRAY = "#8b8f98"


def figure(results: Mapping[str, Any], x: str, y: str) -> Any:
    """A figure of all points: a curve for every combination of all settings but one.

    The setting with the most values runs along the curves and is written beside the points.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency("Plots need matplotlib.", install_hint("eval")) from error
    points = results["points"]
    along, curves = _curves(results)
    front = pareto(points, x, y)
    plot = Figure(figsize=(7.2, 5.0), dpi=160, layout="constrained")
    axes = plot.add_subplot()
    axes.plot(
        [points[k]["scores"][x]["value"] for k in front],
        [points[k]["scores"][y]["value"] for k in front],
        color=GRAY, linewidth=6, alpha=0.28, solid_capstyle="round", label="Pareto front", zorder=1,
    )  # fmt: skip
    for number, (name, members) in enumerate(curves.items()):
        color = COLORS[number % len(COLORS)]
        pairs = [(points[k]["scores"][x], points[k]["scores"][y]) for k in members]
        axes.errorbar(
            [a["value"] for a, _ in pairs],
            [b["value"] for _, b in pairs],
            xerr=[a["error"] for a, _ in pairs],
            yerr=[b["error"] for _, b in pairs],
            color=color, marker=MARKS[number % len(MARKS)], markersize=5, linewidth=1.5,
            elinewidth=0.7, capsize=1.5, label=name or None, zorder=2,
        )  # fmt: skip
        for k, (a, b) in zip(members, pairs, strict=True):
            axes.annotate(
                _short(points[k]["values"][along]), (a["value"], b["value"]),
                xytext=(5, 4), textcoords="offset points", fontsize=7, color=color,
            )  # fmt: skip
    first = points[0]["scores"]
    axes.set_xlabel(axis_label(first[x]))
    axes.set_ylabel(axis_label(first[y]))
    axes.set_title(f"{results['model']}: {along} beside the points", fontsize=10, loc="left")
    axes.grid(color="#000000", alpha=0.08)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return plot


def axis_label(score: Mapping[str, Any]) -> str:
    """The measure, and which way is better."""
    return f"{score['label']} ({'higher' if score['higher_is_better'] else 'lower'} is better)"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _curves(results: Mapping[str, Any]) -> tuple[str, dict[str, list[int]]]:
    """The setting that runs along curves, and the points of each curve by its name."""
    axes: Mapping[str, Sequence[Any]] = results["axes"]
    along = max(axes, key=lambda name: (all(_number(v) for v in axes[name]), len(axes[name])))
    others = [name for name in axes if name != along]
    curves: dict[str, list[int]] = {}
    for values in itertools.product(*(axes[name] for name in others)):
        fixed = dict(zip(others, values, strict=True))
        members = [
            k
            for k, point in enumerate(results["points"])
            if all(point["values"][name] == value for name, value in fixed.items())
        ]
        curves[", ".join(f"{name} {_short(value)}" for name, value in fixed.items())] = members
    return along, curves


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def write_figure(results: Mapping[str, Any], x: str, y: str, out: Path) -> None:
    """Write the figure as a PNG."""
    plot = figure(results, x, y)
    with atomic(out) as temporary:
        plot.savefig(temporary, format="png")


def write_page(results: Mapping[str, Any], pairs: Sequence[tuple[str, str]], out: Path) -> None:
    """Write a self-contained page: a figure for each pair of measures, and the table."""
    parts = [
        f"<h1>Sweep of {html.escape(str(results['model']))}</h1>",
        f'<p class="about">{results["prompts"]["count"]} prompts of '
        f"{html.escape(str(results['prompts']['suite']))}, pictures of each: "
        f"{results['images_per_prompt']}; error bars are one standard error. Points of the "
        f"front are bold.</p>",
    ]
    fronts: set[int] = set()
    for x, y in pairs:
        drawing = io.StringIO()
        plot = figure(results, x, y)
        plot.savefig(drawing, format="svg", transparent=False)
        svg = drawing.getvalue()
        parts.append(f'<div class="plot">{svg[svg.index("<svg") :]}</div>')
        fronts |= set(pareto(results["points"], x, y))
    parts.append(_table(results, fronts))
    record = {key: value for key, value in results.items() if key != "points"}
    parts.append(f"<h2>Record</h2><pre>{html.escape(json.dumps(record, indent=2))}</pre>")
    style = ".plot svg { max-width: 100%; height: auto; } .front { font-weight: 700; }"
    write_text(out, page(f"Sweep of {results['model']}", "\n".join(parts), style))


def _table(results: Mapping[str, Any], fronts: set[int]) -> str:
    points = results["points"]
    measures = list(points[0]["scores"])
    head = "".join(f"<th>{html.escape(name)}</th>" for name in [*results["axes"], *measures])
    rows = []
    for k, point in enumerate(points):
        cells = [html.escape(_short(value)) for value in point["values"].values()]
        cells += [f"{s['value']:.4g} &plusmn; {s['error']:.2g}" for s in point["scores"].values()]
        link = f'<a href="{html.escape(point["folder"])}/index.html">{cells[0]}</a>'
        cells = [link, *cells[1:]]
        mark = ' class="front"' if k in fronts else ""
        rows.append(f"<tr{mark}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
