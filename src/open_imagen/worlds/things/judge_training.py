"""Training of the judge's classifier: on exact scenes, never on generated images."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.errors import ConfigError
from open_imagen.storage import load_tensors, read_json, save_tensors, write_json
from open_imagen.worlds.things.judge_data import Examples, Imperfections, JudgeData
from open_imagen.worlds.things.judge_network import (
    JudgeNetwork,
    load_classifier,
    make_network,
    save_classifier,
)

ProgressCallback = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class JudgeTraining:
    """How to train."""

    rounds: int = 400
    """Chunks of scenes. A run that goes on may be given another number before the decay begins."""
    decay: float = 0.4
    """Share of the rounds at the end over which the learning rate falls to zero."""
    scenes: int = 256
    """Of a chunk."""
    passes: int = 3
    """Over each chunk."""
    batch: int = 128
    learning_rate: float = 3e-3
    warmup: int = 10
    """Rounds in which the learning rate rises."""
    weight_decay: float = 0.02
    smoothing: float = 0.05
    """Of the labels."""
    style: float = 1.0
    color: float = 0.3
    """Weights of the losses of style and color beside that of the thing."""
    seed: int = 0
    save_every: int = 20
    bfloat16: bool = True
    """Compute in bfloat16 where the device is fast at it."""
    how: Imperfections = field(default_factory=Imperfections)

    def __post_init__(self) -> None:
        for name in ("rounds", "scenes", "passes", "batch", "save_every"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"{name} = {value} must be at least 1.")
        if not 0 < self.decay <= 1:
            raise ConfigError(f"decay = {self.decay} is a share: above 0, at most 1.")


def train_judge(
    atlas: Any,
    config: JudgeTraining,
    out: Path,
    device: str = "cpu",
    progress: ProgressCallback | None = None,
    init: Path | None = None,
) -> Path:
    """Train and write ``out``; a run that was stopped goes on from its last saved round.

    Args:
        init: begin with the weights of this classifier.

    Raises:
        ConfigError: the saved round is of other settings, or ``init`` knows other things.
    """
    data = JudgeData(atlas, config.seed, device)
    torch.manual_seed(config.seed)
    network = make_network(data.labels).to(device).train()
    earlier: dict[str, Any] = {}
    if init is not None:
        first = load_classifier(init, device)
        if first.labels != data.labels:
            raise ConfigError(f"{init} knows other things than the atlas.", "Train without it.")
        network.load_state_dict(first.network.state_dict())
        earlier = {"init": first.facts}
    optimizer = torch.optim.AdamW(network.parameters(), 0.0, weight_decay=config.weight_decay)
    state = out.with_suffix(".state")
    start = _restore(state, config, network, optimizer) if state.is_dir() else 0
    cpu_began = time.process_time()
    for number in range(start, config.rounds):
        examples = data.chunk(number, config.scenes, config.how)
        report = _round(network, optimizer, examples, config, number, device)
        if progress is not None:
            spent = round(time.process_time() - cpu_began, 1)
            progress({"round": number + 1, "of": config.rounds, **report, "cpu_seconds": spent})
        if (number + 1) % config.save_every == 0 and number + 1 < config.rounds:
            _save(state, config, network, optimizer, number + 1)
    facts = {"training": asdict(config), "things": len(data.labels.things), **earlier}
    save_classifier(out, network.eval(), data.labels, facts)
    return out


def _round(
    network: JudgeNetwork,
    optimizer: torch.optim.Optimizer,
    examples: Examples,
    config: JudgeTraining,
    number: int,
    device: str,
) -> dict[str, float]:
    """A few passes over one chunk; returns its mean loss and accuracy."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + number)
    count = len(examples.crops)
    total, right = 0.0, 0.0
    steps = max(count // config.batch, 1) * config.passes
    done = 0
    for _ in range(config.passes):
        order = torch.randperm(count, generator=generator)
        for rows in torch.split(order, config.batch)[: max(count // config.batch, 1)]:
            share = (number + done / steps) / config.rounds
            rise = (number + done / steps + 0.1) / max(config.warmup, 1)
            rate = config.learning_rate * min(rise, 1.0, (1 - share) / config.decay)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = Examples(*(part[rows].to(device) for part in examples))
            loss, correct = _loss(network, batch, config, device)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            total, right, done = total + float(loss.detach()), right + float(correct), done + 1
    return {"loss": round(total / done, 4), "accuracy": round(right / done, 4)}


def _loss(
    network: JudgeNetwork, batch: Examples, config: JudgeTraining, device: str
) -> tuple[Tensor, Tensor]:
    images = batch.crops.contiguous(memory_format=torch.channels_last)
    kind = torch.device(device).type
    with torch.autocast(kind, torch.bfloat16, enabled=config.bfloat16 and fast_bfloat16(kind)):
        heads = network(images)
    thing, style, color = (head.float() for head in heads)
    loss = F.cross_entropy(thing, batch.things, label_smoothing=config.smoothing)
    for logits, target, weight in (
        (style, batch.styles, config.style),
        (color, batch.colors, config.color),
    ):
        if bool((target >= 0).any()):
            loss = loss + weight * F.cross_entropy(logits, target, ignore_index=-1)
    return loss, (thing.argmax(1) == batch.things).float().mean()


def fast_bfloat16(kind: str) -> bool:
    """Whether a device computes in bfloat16 as fast as in float32, or faster."""
    if kind == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return True


def _save(
    folder: Path,
    config: JudgeTraining,
    network: JudgeNetwork,
    optimizer: torch.optim.Optimizer,
    done: int,
) -> None:
    """Write what it takes to go on. One file holds all, so that its parts never disagree."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for number, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            tensors[f"optimizer.{number}.{name}"] = torch.as_tensor(value)
    tensors["done"] = torch.tensor(done)
    write_json(folder / "config.json", asdict(config))
    save_tensors(folder / "state.safetensors", tensors)


def _restore(
    folder: Path,
    config: JudgeTraining,
    network: JudgeNetwork,
    optimizer: torch.optim.Optimizer,
) -> int:
    if not (folder / "state.safetensors").is_file():
        return 0
    tensors = load_tensors(folder / "state.safetensors")
    done, kept = int(tensors["done"]), read_json(folder / "config.json")
    decaying = done > (1 - config.decay) * min(kept["rounds"], config.rounds)
    if not decaying:
        kept["rounds"] = config.rounds
    if kept != asdict(config):
        raise ConfigError(
            f"{folder} holds a training with other settings.", "Remove it, or take another --out."
        )
    network.load_state_dict(
        {name.removeprefix("network."): v for name, v in tensors.items() if name.startswith("net")}
    )
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".")
            state.setdefault(int(number), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return done
