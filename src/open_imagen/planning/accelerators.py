"""Accelerators: memory, speed, and what an hour of one cost about."""

from typing import NamedTuple

from open_imagen.registry import Registry


class Accelerator(NamedTuple):
    """One of them."""

    memory: float
    """GiB."""
    teraflops: float
    """Dense bfloat16 multiply-adds a second, counted as two operations, in 10^12; the maker's."""
    price: float
    """US dollars an hour: what was asked for in 2025, roughly. Give your own with --price."""


HERE = "here"
"""In place of an accelerator's name: this machine, a CPU too, whose speed is measured."""
ACCELERATORS: Registry[Accelerator] = Registry("accelerator")
for _name, _row in {
    "a100-40": Accelerator(40, 312, 1.3),
    "a100-80": Accelerator(80, 312, 1.8),
    "h100": Accelerator(80, 989, 2.5),
    "h200": Accelerator(141, 989, 3.3),
    "b200": Accelerator(180, 2250, 5.5),
    "l40s": Accelerator(48, 362, 1.0),
    "l4": Accelerator(24, 121, 0.5),
    "a10": Accelerator(24, 125, 0.6),
    "rtx3060": Accelerator(12, 25, 0.1),
    "rtx3080": Accelerator(10, 60, 0.15),
    "rtx3090": Accelerator(24, 71, 0.2),
    "rtx4060": Accelerator(8, 30, 0.1),
    "rtx4070": Accelerator(12, 58, 0.15),
    "rtx4080": Accelerator(16, 97, 0.25),
    "rtx4090": Accelerator(24, 165, 0.45),
    "rtx5090": Accelerator(32, 210, 0.7),
    "mi300x": Accelerator(192, 1307, 2.5),
}.items():
    ACCELERATORS.register(_name)(_row)
