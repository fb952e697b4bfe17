"""One process of a small run, for the tests of several: python worker.py OUT [SETTING ...].

The first process writes the loss of every step to OUT/losses.json. With train.sample_every and
train.validate_every there are samples and validation.jsonl.
"""

import gc
import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch.nn.parallel import DistributedDataParallel

from open_imagen.distributed import joined
from open_imagen.training.reporting import Samples, Validation
from open_imagen.training.run import read_recipe
from open_imagen.training.trainer import Trainer
from open_imagen.worlds.sources import open_source
from standins import WordEncoder

RECIPE = Path(__file__).parents[2] / "recipes" / "tiny.toml"
SETTINGS = (
    "train.images=320",
    "train.batch_size=16",
    "train.save_every=160",
    "train.log_every=16",
    "train.sample_every=0",
    "train.precision=fp32",
    "train.threads=1",
    "data.num_captions=20",
    "ema.half_life=50",
    "optim.lr=1e-3",
    # A bias right before a norm of its own has no gradient but rounding, which Adam would blow up
    # to the size of any other.
    "optim.eps=1e-5",
    "optim.warmup=32",
)


def main() -> None:
    out = Path(sys.argv[1])
    config = read_recipe(RECIPE, (f"out={out}", *SETTINGS, *sys.argv[2:]))
    losses = []

    def die_once(trainer: Trainer) -> None:
        # As a machine does: suddenly. DIE says after how many images; only the first time.
        if trainer.seen == int(os.environ.get("DIE", -1)) and trainer.world.rank == 1:
            trainer.checkpoints.settle()
            flag = out / "died"
            if not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    held_out = open_source({"kind": "shapes", "num_captions": 5, "seed": 9})
    with joined(torch.device("cpu")) as world:
        trainer = Trainer(
            config,
            open_source(config.data),
            WordEncoder(),
            [
                lambda trainer: losses.append([trainer.seen, trainer.told.loss]),
                Samples(out),
                Validation(out, held_out, images=32),
                die_once,
            ],
        )
        trainer.fit()
        # What holds on to the process group when it is destroyed can stop a process from ending.
        gc.collect()
        assert not any(isinstance(one, DistributedDataParallel) for one in gc.get_objects())
        if world.first:
            (out / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main()
