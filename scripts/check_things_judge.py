"""Measure the judge of the things world on exact scenes, and keep what is found in its JSON.

python scripts/check_things_judge.py --atlas DIR judge.safetensors
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from open_imagen.errors import OpenImagenError
from open_imagen.worlds.things.catalog import Catalog
from open_imagen.worlds.things.judge import Judge
from open_imagen.worlds.things.judge_check import check_objects, check_suite, choose_thresholds
from open_imagen.worlds.things.judge_data import JudgeData
from open_imagen.worlds.things.judge_network import load_classifier, write_facts
from open_imagen.worlds.things.scenes import COLORS
from open_imagen.worlds.things.source import Things, ThingsConfig
from open_imagen.worlds.things.suite import Suite

SEED = 4242
"""Of scenes that training has not seen: its own seed is 0."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("judge", type=Path, metavar="FILE.safetensors")
    parser.add_argument("--atlas", required=True, metavar="DIR")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--prompts", type=int, default=200, help="Of each category.")
    parser.add_argument("--sizes", default="64,256", help="Sides of the pictures.")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        facts = measure(options)
    except OpenImagenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_facts(options.judge, facts)
    print(json.dumps(facts, indent=1))
    return 0


def measure(options: argparse.Namespace) -> dict:
    """Thresholds, objects of random scenes, and the suite's prompts, drawn exactly."""
    classifier = load_classifier(options.judge)
    facts: dict = {}
    for size in map(int, options.sizes.split(",")):
        source = Things(ThingsConfig(atlas=options.atlas, size=size, seed=SEED, shapes=0.1))
        if not facts:
            data = JudgeData(source.atlas, seed=SEED)
            sure, facts["crops"] = choose_thresholds(classifier, data)
            facts["sure"] = vars(sure)
            print(json.dumps(facts), file=sys.stderr, flush=True)
        eye = Judge(classifier, sure)
        began = time.process_time()
        found = check_objects(eye, source, options.scenes)
        found["cpu_ms_per_scene"] = 1000 * (time.process_time() - began) / options.scenes
        facts[f"objects_{size}"] = found
        print(size, json.dumps(found), file=sys.stderr, flush=True)
        catalog = Catalog(
            source.atlas.things, source.atlas.sprites, colors=tuple(COLORS), held_out=True
        )
        suite = Suite(catalog, source.palette.near)
        facts["exact"] = check_suite(eye, suite, source, options.prompts, size=size)
        facts[f"exact_{size}"] = facts["exact"]
        print(size, json.dumps(facts["exact"]), file=sys.stderr, flush=True)
    return facts


if __name__ == "__main__":
    sys.exit(main())
