"""Write the model card of a model of the things world: README.md, its image and its figures.

    python scripts/things_card.py MODEL --atlas DIR [--suite report.json] [--out DIR]

MODEL is a model folder, a shipped model, or a run folder (its newest checkpoint). Samples are made
once: with the same model and settings, only the text is written again.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.folder import locate, read_header
from open_imagen.cascade.io import load
from open_imagen.config import plain
from open_imagen.errors import ConfigError, OpenImagenError
from open_imagen.storage import atomic, read_json, write_json, write_text
from open_imagen.training.checkpoint_model import export_checkpoint, is_run
from open_imagen.worlds.things.atlas import Atlas
from open_imagen.worlds.things.card import RECORD, SHEET, CardFacts, card
from open_imagen.worlds.things.card_likeness import LikenessConfig, draw_sheet, measure_likeness
from open_imagen.worlds.things.systems import CascadeSystem


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--atlas", type=Path, default=Path("things"), metavar="DIR")
    parser.add_argument("--suite", type=Path, metavar="FILE", help="report.json of the suite")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="of scripts/label_images.py")
    parser.add_argument(
        "--drawbench", type=Path, nargs="+", default=[], metavar="FILE", help="reports, ours first"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the model's own folder without")
    parser.add_argument("--samples", type=int, default=LikenessConfig.samples)
    parser.add_argument("--seeds", type=int, default=LikenessConfig.seeds)
    parser.add_argument("--diverse-prompts", type=int, default=LikenessConfig.diverse_prompts)
    parser.add_argument("--references", type=int, default=LikenessConfig.references)
    parser.add_argument("--stages", type=int, help="the model's default without")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="0: torch's default")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            print(write_card(options, Path(folder)))
    except OpenImagenError as error:
        print(f"error: {error}", error.hint, sep="\n", file=sys.stderr)
        return 1
    return 0


def write_card(options: argparse.Namespace, scratch: Path) -> Path:
    """Measure what is not known yet, and write the card; its path."""
    model, out = Path(options.model), options.out
    if is_run(model):
        if out is None:
            raise ConfigError(f"{model} is a run, not a model folder.", "Say where with --out.")
        export_checkpoint(model, scratch / "model")
        model = scratch / "model"
    else:
        model = locate(options.model)
    out = out or model
    cascade, atlas = load(model, device=options.device), Atlas.open(options.atlas)
    facts = CardFacts(
        header=read_header(model),
        parameters={
            name: sum(p.numel() for p in stage.parameters())
            for name, stage in cascade.stages.items()
        },
        adapters=_adapters(cascade),
        atlas=atlas,
        likeness=_likeness(options, out, cascade, atlas),
        suite=read_json(options.suite) if options.suite else None,
        labels=read_json(options.labels) if options.labels else None,
        drawbench=[read_json(path) for path in options.drawbench],
    )
    write_text(out / "README.md", card(facts))
    return out / "README.md"


def _adapters(cascade: Cascade) -> dict[str, list[dict[str, Any]]]:
    """The named adapters of each stage."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, variants in cascade.variants.items():
        for adapter in variants.adapters.values():
            row = {
                "name": adapter.name,
                "parameters": sum(tensor.numel() for tensor in adapter.tensors.values()),
                "trained": adapter.trained or {},
                "sampling": plain(adapter.sampling) if adapter.sampling else {},
            }
            found.setdefault(name, []).append(row)
    return found


def _likeness(
    options: argparse.Namespace, out: Path, cascade: Cascade, atlas: Atlas
) -> dict[str, Any]:
    config = LikenessConfig(
        samples=options.samples,
        seeds=options.seeds,
        diverse_prompts=options.diverse_prompts,
        references=options.references,
    )
    system = CascadeSystem(cascade, options.stages)
    same = json.loads(json.dumps({"system": system.facts, "config": vars(config)}))
    if (out / RECORD).is_file() and (out / SHEET).is_file():
        known: dict[str, Any] = read_json(out / RECORD)
        if {key: known.get(key) for key in same} == same:
            return known

    def show(what: str, done: int, total: int) -> None:
        print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

    record, images = measure_likeness(system, atlas, config, show)
    sheet = draw_sheet(record["samples"], images, atlas)
    with atomic(out / SHEET) as temporary:
        sheet.save(temporary, "WEBP", quality=85)
    write_json(out / RECORD, record)
    return record


if __name__ == "__main__":
    sys.exit(main())
