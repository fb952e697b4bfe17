"""A run as one page to browse: prompts by category, every picture, nothing from elsewhere."""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_imagen.evaluation.html_page import page
from open_imagen.evaluation.image_set import read_run
from open_imagen.storage import write_text


def write_contact_sheet(folder: Path) -> Path:
    """Write index.html into a finished run.

    Raises:
        DataError: the folder is no run.
    """
    run = read_run(folder)
    rows: dict[str, list[str]] = {}
    probes: dict[str, str] = {}
    for p in range(run["prompts"]["count"]):
        prompt_folder = folder / f"{p:05d}"
        metadata = json.loads((prompt_folder / "metadata.jsonl").read_text(encoding="utf-8"))
        category = str(metadata.get("category", ""))
        probes.setdefault(category, str(metadata.get("probes", "")))
        rows.setdefault(category, []).append(_figure(metadata, p, run["images_per_prompt"]))
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


def _figure(metadata: Mapping[str, Any], number: int, images: int) -> str:
    prompt = html.escape(str(metadata["prompt"]))
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
