"""A run as one page to browse: prompts by category, every picture, nothing from elsewhere."""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_imagen.evaluation.pictures import read_run
from open_imagen.storage import write_text

STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, CanvasText 16%, Canvas); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { margin: 2.5rem 0 .5rem; font-size: 1.2rem; }
nav { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1rem 0; }
nav a { border: 1px solid var(--line); border-radius: 99px; padding: .15rem .8rem;
  text-decoration: none; color: inherit; }
.about, figcaption small { opacity: .7; }
figure { margin: 0; padding: 1rem 0; border-top: 1px solid var(--line); }
figcaption { margin-bottom: .5rem; overflow-wrap: anywhere; }
.samples { display: grid; gap: .5rem; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); }
.samples img { width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 6px;
  image-rendering: auto; display: block; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
pre { overflow-x: auto; padding: 1rem; border: 1px solid var(--line); border-radius: 6px; }
"""


def page(title: str, body: str, style: str = "") -> str:
    """A self-contained page; ``title`` is text, ``body`` is HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}{style}</style></head>"
        f"<body>\n{body}\n</body></html>\n"
    )


def write_sheet(folder: Path) -> Path:
    """Write index.html into a finished run.

    Raises:
        DataError: the folder is no run.
    """
    run = read_run(folder)
    rows: dict[str, list[str]] = {}
    probes: dict[str, str] = {}
    for p in range(run["prompts"]["count"]):
        place = folder / f"{p:05d}"
        facts = json.loads((place / "metadata.jsonl").read_text(encoding="utf-8"))
        category = str(facts.get("category", ""))
        probes.setdefault(category, str(facts.get("probes", "")))
        rows.setdefault(category, []).append(_figure(facts, p, run["images_per_prompt"]))
    name = str(run["system"]["name"])
    links = [
        f'<a href="#c{k}">{html.escape(category)} <small>{len(figures)}</small></a>'
        for k, (category, figures) in enumerate(rows.items())
    ]
    parts = [
        f"<h1>{html.escape(name)}</h1>",
        f'<p class="about">{run["prompts"]["count"]} prompts of {html.escape(_suite(run))}, '
        f"{_number(run['images_per_prompt'], 'picture')} each, first seed {run['seed']}</p>",
        f'<nav aria-label="Categories">{"".join(links)}</nav>',
    ]
    for k, (category, figures) in enumerate(rows.items()):
        parts.append(f'<h2 id="c{k}">{html.escape(category)}</h2>')
        if probes[category]:
            parts.append(f'<p class="about">{html.escape(probes[category])}</p>')
        parts += figures
    record = html.escape(json.dumps(run, indent=2, ensure_ascii=False))
    parts.append(f"<h2>Record</h2><pre>{record}</pre>")
    write_text(folder / "index.html", page(name, "\n".join(parts)))
    return folder / "index.html"


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _suite(run: Mapping[str, Any]) -> str:
    return str(run["prompts"].get("suite", "a suite"))


def _figure(facts: Mapping[str, Any], number: int, images: int) -> str:
    prompt = html.escape(str(facts["prompt"]))
    samples = "".join(
        f'<a href="{number:05d}/samples/{i:04d}.png">'
        f'<img loading="lazy" alt="picture {i + 1} of: {prompt}" '
        f'src="{number:05d}/samples/{i:04d}.png"></a>'
        for i in range(images)
    )
    return (
        f"<figure><figcaption><small>{number}</small> {prompt}</figcaption>"
        f'<div class="samples">{samples}</div></figure>'
    )
