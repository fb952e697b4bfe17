"""What this machine can do: how fast it trains, measured, and how much memory is free."""

import time
from dataclasses import dataclass

import torch

from open_imagen.devices import free_memory, has_bf16
from open_imagen.models.profile import count
from open_imagen.models.registry import construct, resolve
from open_imagen.types import TextEmbedding

PROBE = "small-base-64"
"""The network whose training steps are timed."""
TOKENS = 16


@dataclass(frozen=True)
class Machine:
    """A device to train on."""

    device: str
    flops: float
    """Floating-point operations a second of training steps, measured."""
    memory: int
    """Free bytes."""
    bf16: bool


def measure(device: torch.device) -> Machine:
    """Time a few training steps of a small network: some seconds."""
    bf16 = has_bf16(device)
    batch = 64 if device.type == "cuda" else 8
    name, config = resolve({"preset": PROBE})
    torch.manual_seed(0)
    network = construct(name, config).to(device)
    images = torch.randn(batch, 3, 64, 64, device=device)
    tokens = torch.randn(batch, TOKENS, config.text_width, device=device)
    text = TextEmbedding(tokens, torch.ones(batch, TOKENS, dtype=torch.bool, device=device))

    def step() -> float:
        begin = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = network(images, torch.zeros(batch, device=device), text).square().mean()
        loss.backward()
        network.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begin

    step()
    seconds = min(step() for _ in range(3))
    operations = 3 * count(name, config, 64, TOKENS).flops * batch
    return Machine(str(device), operations / seconds, free_memory(device), bf16)
