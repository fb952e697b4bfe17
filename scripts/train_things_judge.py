"""Train the judge of the things world on exact scenes of an atlas; run again to go on.

python scripts/train_things_judge.py --atlas DIR --out judge.safetensors
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from open_imagen.errors import OpenImagenError
from open_imagen.worlds.things.atlas import Atlas
from open_imagen.worlds.things.judge_training import JudgeTraining, train_judge


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atlas", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors")
    parser.add_argument("--rounds", type=int, default=JudgeTraining.rounds)
    parser.add_argument("--passes", type=int, default=JudgeTraining.passes)
    parser.add_argument("--scenes", type=int, default=JudgeTraining.scenes)
    parser.add_argument("--rate", type=float, default=JudgeTraining.learning_rate)
    parser.add_argument("--decay", type=float, default=JudgeTraining.decay)
    parser.add_argument("--init", type=Path, metavar="FILE", help="Begin with this classifier.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = JudgeTraining(
        rounds=options.rounds,
        passes=options.passes,
        scenes=options.scenes,
        learning_rate=options.rate,
        decay=options.decay,
        seed=options.seed,
    )

    def show(report: dict) -> None:
        print(time.strftime("%H:%M:%S"), json.dumps(report), file=sys.stderr, flush=True)

    try:
        atlas = Atlas.open(options.atlas)
        train_judge(atlas, config, options.out, options.device, show, options.init)
    except OpenImagenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
