"""Encoders that transformers runs (T5, CLIP), and where an encoder fits."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_imagen.devices import free_memory, has_bf16
from open_imagen.errors import CheckpointError, MissingDependency
from open_imagen.storage import TensorFile

MODELS = {"t5": "T5EncoderModel", "clip": "CLIPTextModel"}
ROOM = 0.8
"""Share of free memory that an encoder may take."""


def place_for(folder: Path, device: torch.device) -> tuple[torch.device, str]:
    """Where an encoder fits and in which dtype: the device first, float32 first.

    >>> place_for(Path("nowhere"), torch.device("cpu"))
    (device(type='cpu'), 'float32')
    """
    files = folder.glob("*.safetensors")
    numbers = sum(math.prod(shape) for file in files for shape in TensorFile(file).shapes.values())
    for place in dict.fromkeys((device, torch.device("cpu"))):
        room = ROOM * free_memory(place)
        if 4 * numbers <= room:
            return place, "float32"
        if 2 * numbers <= room and has_bf16(place):
            return place, "bfloat16"
    return torch.device("cpu"), "bfloat16" if has_bf16(torch.device("cpu")) else "float32"


def load(family: str, folder: Path, device: torch.device, dtype: str, output: str) -> "Reader":
    """An encoder of this family from a folder, reading safetensors only.

    Raises:
        MissingDependency: transformers cannot, or int8 is asked for without bitsandbytes.
        CheckpointError: the folder's files are damaged or of another network.
    """
    try:
        import transformers

        kind = getattr(transformers, MODELS[family])
    except (ImportError, RuntimeError) as error:
        raise MissingDependency(
            f"transformers cannot load its {MODELS[family]} ({error}).",
            "If torchvision is installed, remove it or install the build that matches torch.",
        ) from error
    how: dict[str, Any] = {"dtype": getattr(torch, dtype, torch.bfloat16)}
    if dtype == "int8":
        how |= {"quantization_config": _eight_bits(transformers), "device_map": {"": device}}
    try:
        model = kind.from_pretrained(folder, use_safetensors=True, local_files_only=True, **how)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder} does not hold a text encoder that can be read: {str(error).strip()}",
            "It needs config.json and weights as safetensors, all shards of them.",
        ) from error
    return Reader(model if dtype == "int8" else model.to(device), output)


def _eight_bits(transformers: Any) -> Any:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            "An encoder in int8 needs bitsandbytes.", 'Run: pip install "open-imagen[int8]"'
        ) from error
    return transformers.BitsAndBytesConfig(load_in_8bit=True)


class Reader:
    """A frozen network of transformers: token ids [B, L], mask [B, L] -> hidden states."""

    def __init__(self, model: Any, output: str) -> None:
        self.model = model.eval().requires_grad_(False)
        self.output = output
        config = model.config
        self.width: int = getattr(config, "d_model", None) or config.hidden_size

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        wants_all = self.output == "penultimate"
        found = self.model(
            input_ids=ids, attention_mask=mask.long(), output_hidden_states=wants_all
        )
        hidden: Tensor = found.hidden_states[-2] if wants_all else found.last_hidden_state
        return hidden
