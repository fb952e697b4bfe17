"""How the cost of a picture grows with the batch, the side, the steps and the length of the text.

Ours, fast, and diffusers' pipeline, channels_last, on identical DeepFloyd-shaped weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from measuring import Table, alternate, script
from sampling_loop import against_diffusers


@dataclass(frozen=True)
class Work:
    """What is asked for."""

    batch: int = 1
    side: int = 64
    steps: int = 4
    tokens: int = 77


GROWTHS: dict[str, tuple[int, ...]] = {
    "batch": (1, 2, 4, 8),
    "side": (32, 64, 96, 128),
    "steps": (2, 4, 8, 16),
    "tokens": (16, 77, 256),
}


@torch.inference_mode()
def measure(rounds: int) -> Iterator[Table]:
    base = Work()
    table = Table(
        "As work grows",
        f"One setting at a time away from batch {base.batch}, {base.side} pixels, {base.steps} "
        f"steps, {base.tokens} tokens; diffusers channels_last. Milliseconds for the whole loop, "
        "and for each picture.",
        ["setting", "value", "diffusers", "ours, fast", "ratio", "ours, a picture"],
    )
    for setting, values in GROWTHS.items():
        for value in values:
            work = replace(base, **{setting: value})
            ways = against_diffusers(work.batch, work.steps, work.side, work.tokens)
            pair = {"diffusers": ways["diffusers, channels_last"], "ours": ways["ours, fast"]}
            found = table.keep(alternate(pair, rounds), f"{setting} {value}")
            theirs, ours = (1000 * seconds for seconds in found.values())
            table.rows.append([setting, value, theirs, ours, theirs / ours, ours / work.batch])
    yield table


if __name__ == "__main__":
    script(measure, __doc__, rounds={"type": int, "default": 3})
