"""Train the shipped models from their recipes, in slices, and put them into the package.

Run it again and again until it says that the models are complete:

    python scripts/train_scenes.py --runs runs --minutes 9

Every slice resumes from its own checkpoints. Scenes are rendered and captions embedded on the
device that trains, so any machine with the language model's files can do it.
"""

import argparse
import shutil
import sys
from pathlib import Path

import torch
from slices import train

from open_imagen import join
from open_imagen.devices import pick_device

ROOT = Path(__file__).parents[1]
BEGINS_FROM = {
    "scenes-base": "",
    "scenes-base-relations": "scenes-base",
    "scenes-base-signs": "scenes-base-relations",
    "scenes-base-words": "scenes-base-signs",
    "scenes-base-distill": "scenes-base-words",
    "scenes-base-distill-longer": "scenes-base-distill",
    "scenes-base-distill-stronger": "scenes-base-distill-longer",
    "scenes-base-distill-path": "scenes-base-distill-stronger",
    "scenes-base-distill-path-longer": "scenes-base-distill-path",
    "scenes-base-reading": "scenes-base-distill-path-longer",
    "scenes-sr256": "",
    "scenes-sr256-sharp": "scenes-sr256",
    "scenes-sr256-words": "scenes-sr256-sharp",
    "scenes-sr1024": "",
    "scenes-sr1024-longer": "scenes-sr1024",
    "scenes-sr1024-longest": "scenes-sr1024-longer",
    "scenes-sr1024-sharp": "scenes-sr1024-longest",
    "scenes-sr1024-sharper": "scenes-sr1024-sharp",
}
"""The recipes in their order, and of whose model each makes its own."""
TEACHER = "scenes-base-words"
"""Whose guided predictions the base of `scenes` makes at once."""
MODELS = {
    "scenes": ("scenes-base-reading", "scenes-sr256-words", "scenes-sr1024-sharper"),
    "scenes-teacher": (TEACHER,),
}
"""The shipped models and the runs that their stages come from."""
BY_DEFAULT = {"scenes": 2}
"""How many stages run unless more are asked for, where that is not all."""
SHIPPED = ROOT / "src" / "open_imagen" / "shipped"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs are kept")
    parser.add_argument("--minutes", type=float, default=0, help="length of this slice; 0: no end")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="where the models go")
    options = parser.parse_args()

    device = str(pick_device(options.device))
    for name, first in BEGINS_FROM.items():
        settings = (f"train.init={options.runs / first / 'model'}",) if first else ()
        if name.startswith("scenes-base-distill"):
            settings += (f"distill.teacher={options.runs / TEACHER / 'model'}",)
        if not train(name, options.runs / name, device, options.minutes, settings):
            return 0

    for model, runs in MODELS.items():
        cascade = join(
            model,
            [options.runs / run / "model" for run in runs],
            device="cpu",
            default_stages=BY_DEFAULT.get(model),
        )
        cascade.save(options.out / model, torch.float16)
        shutil.copy(ROOT / "docs" / "models" / "scenes.md", options.out / model / "README.md")
    print(f"The models are complete: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
