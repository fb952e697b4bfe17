"""The networks of a cascade as ONNX files that say how to sample with them."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.stage import FARTHEST, Stage
from open_imagen.config import plain
from open_imagen.diffusion.samplers import scales
from open_imagen.errors import ConfigError, MissingDependency, install_hint
from open_imagen.exporters.diffusers_export import finite
from open_imagen.storage import write_json
from open_imagen.text.encoders import ENCODERS
from open_imagen.types import LowRes, TextEmbedding
from open_imagen.version import __version__

OPSET = 18
METADATA = "open_imagen"
"""The entry of a file's metadata that says how to sample, as JSON."""
TRACED_TOKENS = 8
"""Tokens of the example that a network of dynamic text length is traced with."""


class Traced(nn.Module):
    """A stage's network with plain tensors as inputs."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.network = stage.network
        self.inputs = input_names(stage)

    def forward(self, *tensors: Tensor) -> Tensor:
        """The prediction for inputs in the order of ``inputs``."""
        given = dict(zip(self.inputs, tensors, strict=True))
        text = TextEmbedding(given["tokens"], given["mask"], given.get("letters"))
        lowres = None
        if "lowres_image" in given:
            lowres = LowRes(given["lowres_image"], given["lowres_level"])
        out: Tensor = self.network(given["z"], given["level"], text, lowres)
        return out


def input_names(stage: Stage) -> list[str]:
    """The inputs of a stage's file, in order."""
    names = ["z", "level", "tokens", "mask"]
    if stage.letters:
        names.append("letters")
    if stage.config.lowres:
        names += ["lowres_image", "lowres_level"]
    return names


def write_stages(
    cascade: Cascade, folder: Path, dtype: torch.dtype, text_length: int | None = None
) -> None:
    """Write STAGE.onnx and STAGE.json of every stage.

    Args:
        text_length: tokens of every caption; any number if None.

    Raises:
        ConfigError: another dtype than float32.
        MissingDependency: the onnx package is not installed.
    """
    if dtype != torch.float32:
        raise ConfigError(
            "ONNX files are written in float32.", "Convert them with onnxconverter-common."
        )
    for name, stage in cascade.stages.items():
        facts = sampling_facts(cascade, stage)
        facts["text_length"] = text_length
        write_json(folder / f"{name}.json", facts)
        write_network(stage, folder / f"{name}.onnx", facts, text_length)


def write_network(
    stage: Stage, file: Path, facts: dict[str, Any], text_length: int | None = None
) -> None:
    """Write one network, with these facts in its metadata."""
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency(
            "Writing ONNX files needs the package onnx.", install_hint("onnx")
        ) from error
    stage = stage.replica()  # plain layers in float32, on the CPU
    stage.load_weights(torch.device("cpu"))
    names = input_names(stage)
    examples = example_inputs(stage, text_length or TRACED_TOKENS)
    dynamic: dict[str, dict[int, str]] = {name: {0: "batch"} for name in [*names, "prediction"]}
    if text_length is None:
        dynamic["tokens"][1] = dynamic["mask"][1] = "length"
    with warnings.catch_warnings(), torch.no_grad():
        # The tracing exporter: that of torch.export fails on these networks (torch 2.13).
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Traced(stage).eval(),
            tuple(examples[name] for name in names),
            str(file),
            dynamo=False,
            opset_version=OPSET,
            input_names=names,
            output_names=["prediction"],
            dynamic_axes=dynamic,
        )
    model = onnx.load(str(file), load_external_data=False)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(facts)
    onnx.save(model, str(file))


def example_inputs(stage: Stage, length: int, batch: int = 2) -> dict[str, Tensor]:
    """Inputs of the right shapes."""
    side, config = stage.config.resolution, stage.network_config
    image = torch.zeros(batch, stage.channels, side, side)
    return {
        "z": image,
        "level": torch.zeros(batch),
        "tokens": torch.zeros(batch, length, config.text_width),
        "mask": torch.ones(batch, length, dtype=torch.bool),
        "letters": torch.zeros(batch, stage.letters, dtype=torch.int64),
        "lowres_image": image,
        "lowres_level": torch.zeros(batch),
    }


def sampling_facts(cascade: Cascade, stage: Stage) -> dict[str, Any]:
    """All that a sampling loop needs to know, in plain values."""
    config, spec = stage.config, ENCODERS[cascade.config.encoder]
    how = config.sampling.resolve()
    facts: dict[str, Any] = {
        "version": __version__,
        "model": cascade.name,
        "stage": config.name,
        "resolution": config.resolution,
        "lowres": config.lowres,
        "channels": stage.channels,
        "learned_variance": stage.learned_range,
        "prediction": config.objective.prediction,
        "level": "step" if stage.uses_timesteps else f"log-SNR, within +-{FARTHEST:g}",
        "schedule": plain(config.schedule),
        "noise_levels": [level_facts(stage, one) for one in how.levels(config.schedule)],
        "sampling": finite(how),
        "unconditional": config.unconditional,
        "distilled_guidance": config.distilled_guidance,
        "letters": stage.letters,
        "text_encoder": {
            "name": cascade.config.encoder,
            "repository": spec.repository,
            "width": spec.width,
            **{key: getattr(spec, key) for key in ("max_length", "output", "padded", "cleaning")},
        },
    }
    if config.lowres:
        noise = torch.tensor(how.noise_level or 0.0)
        logsnr = float(config.augmentation.logsnr(noise))
        # Level 0 of a continuous schedule is the clean image (Augmentation).
        clean = not noise and not config.augmentation.schedule.discrete
        facts["augmentation"] = {
            "align_corners": config.augmentation.align_corners,
            **level_facts(stage, logsnr),
            **({"alpha": 1.0, "sigma": 0.0} if clean else {}),
        }
    return facts


def level_facts(stage: Stage, logsnr: float) -> dict[str, Any]:
    """A noise level: its scales of signal and noise, and as the network is told it."""
    alpha, sigma = scales(logsnr)
    level = float(stage.time_condition(torch.tensor(logsnr, dtype=torch.float64)))
    return {
        "logsnr": logsnr if math.isfinite(logsnr) else None,
        "alpha": alpha,
        "sigma": sigma,
        "level": level,
    }
