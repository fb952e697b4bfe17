"""The tables of network classes and of presets, and building a network from either."""

from typing import Any, NamedTuple

import torch
from torch import nn

from open_imagen.config import parse, plain
from open_imagen.registry import Registry


class Preset(NamedTuple):
    """A network of a known shape: its class by name, its config, the side of its images."""

    network: str
    config: Any
    resolution: int
    about: str


NETWORKS: Registry[tuple[type[Any], type[nn.Module]]] = Registry("network")
PRESETS: Registry[Preset] = Registry("preset")


def names() -> list[str]:
    """The presets that `build` knows."""
    return sorted(PRESETS)


def resolve(settings: dict[str, Any]) -> tuple[str, Any]:
    """A network's name and config from plain values.

    Settings hold either ``preset`` or ``network`` with its own settings; next to a preset, further
    settings override the preset's.
    """
    values = dict(settings)
    if "preset" in values:
        preset = PRESETS[values.pop("preset")]
        merged = {**plain(preset.config), **values}
        return preset.network, parse(type(preset.config), merged, "network.")
    name = values.pop("network", "unet")
    return name, parse(NETWORKS[name][0], values, "network.")


def written(name: str, config: Any) -> dict[str, Any]:
    """A resolved network in plain values.

    This is what is saved: a preset may change, a saved model must not.
    """
    return {"network": name, **plain(config)}


def construct(name: str, config: Any) -> nn.Module:
    """The network of this class and config, with fresh weights."""
    return NETWORKS[name][1](config)


def build(preset: str, device: str = "cpu", **overrides: Any) -> nn.Module:
    """A preset by name, with fresh weights, or without any memory on device "meta".

    Raises:
        UnknownName: no such preset, or no such setting among ``overrides``.
    """
    name, config = resolve({"preset": preset, **overrides})
    with torch.device(device):
        return construct(name, config)
