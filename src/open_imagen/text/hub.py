"""Encoders that transformers runs (T5, CLIP), and where an encoder fits."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_imagen.devices import free_memory, has_bf16
from open_imagen.errors import CheckpointError, MissingDependency, install_hint
from open_imagen.storage import TensorFile, WeightFiles, find_weights, read_json

MODELS = {"t5": "T5EncoderModel", "clip": "CLIPTextModel"}
WEIGHTS = "model"
"""How the files of an encoder's weights begin."""
TOKENS = "shared.weight"
"""A T5's table of tokens."""
NO_SAFETENSORS = (
    "Copy or download them as safetensors. Where the main branch of a repository has none "
    "(t5-v1_1-*), take a revision that has them, often an open pull request: hf download "
    "REPOSITORY --revision refs/pr/N --local-dir FOLDER; or convert them with transformers, which "
    "reads a pickle as plain tensors (weights_only=True): T5EncoderModel.from_pretrained("
    "REPOSITORY).save_pretrained(FOLDER), and copy the tokenizer's files beside them. Then set "
    "IMAGEN_TEXT_ENCODER_DIR=FOLDER."
)
ROOM = 0.8
"""Share of free memory that an encoder may take."""


def place_for(folder: Path, device: torch.device) -> tuple[torch.device, str]:
    """Where an encoder fits and in which dtype: the device first, float32 first.

    >>> place_for(Path("nowhere"), torch.device("cpu"))
    (device(type='cpu'), 'float32')
    """
    try:
        files = find_weights(folder, WEIGHTS).files
    except CheckpointError:  # who loads them says so
        files = ()
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
    transformers, kind = _transformers(family)
    weights = weights_of(folder)
    if family == "t5":
        check(folder, weights)
    how: dict[str, Any] = {"dtype": getattr(torch, dtype, torch.bfloat16)}
    if dtype == "int8":
        how |= {"quantization_config": _eight_bits(transformers), "device_map": {"": device}}
    if weights.variant:
        how["variant"] = weights.variant
    try:
        model = kind.from_pretrained(folder, use_safetensors=True, local_files_only=True, **how)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder} does not hold a text encoder that can be read: {str(error).strip()}",
            "It needs config.json and weights as safetensors, all shards of them.",
        ) from error
    return Reader(model if dtype == "int8" else model.to(device), output)


def weights_of(folder: Path) -> WeightFiles:
    """The files of an encoder's weights.

    Raises:
        CheckpointError: some are missing, or there are none as safetensors.
    """
    try:
        return find_weights(folder, WEIGHTS)
    except CheckpointError as error:
        if any(folder.glob("*.safetensors")):
            raise
        raise CheckpointError(str(error), NO_SAFETENSORS) from error


def _transformers(family: str) -> tuple[Any, Any]:
    """The library, and its class of this family of encoders."""
    try:
        import transformers

        return transformers, getattr(transformers, MODELS[family])
    except (ImportError, RuntimeError) as error:
        raise MissingDependency(
            f"transformers cannot load its {MODELS[family]} ({error}).",
            "If torchvision is installed, remove it or install the build that matches torch.",
        ) from error


def check(folder: Path, weights: WeightFiles) -> int:
    """The vocabulary size of a T5, after checking that its files hold all weights.

    Only headers are read. transformers would fill what is missing with random numbers.

    Raises:
        CheckpointError: config.json is missing or no T5's, or weights are damaged, missing or of
            other shapes; the message names them.
    """
    transformers, kind = _transformers("t5")
    file = folder / "config.json"
    if not file.is_file():
        raise CheckpointError(f"{folder} lacks config.json.", "Copy or download the file.")
    settings = read_json(file)
    family = settings.get("model_type") if isinstance(settings, dict) else None
    if family != "t5":
        raise CheckpointError(f"{file} is of no T5: model_type = {family!r}.")
    try:
        config = transformers.T5Config.from_dict(settings)
        with torch.device("meta"):
            wanted = {name: tuple(p.shape) for name, p in kind(config).named_parameters()}
    except Exception as error:  # transformers checks a config's values in many ways
        raise CheckpointError(f"{file} describes no T5 encoder: {error}.") from error
    found = {name: s for path in weights.files for name, s in TensorFile(path).shapes.items()}
    if TOKENS not in found and "encoder.embed_tokens.weight" in found:  # two names of one table
        found[TOKENS] = found["encoder.embed_tokens.weight"]
    wrong = [
        f"{name} is {list(found[name])}, not {list(shape)}" if name in found else f"{name} missing"
        for name, shape in wanted.items()
        if found.get(name) != shape
    ]
    if wrong:
        more = f"; and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise CheckpointError(
            f"The weights {weights.index or weights.files[0]} do not fit {file}: "
            f"{'; '.join(wrong[:8])}{more}."
        )
    rows: int = wanted[TOKENS][0]
    return rows


def _eight_bits(transformers: Any) -> Any:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            "An encoder in int8 needs bitsandbytes.", install_hint("int8")
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
        """Token ids [B, L] and mask [B, L] -> hidden states [B, L, C]."""
        wants_all = self.output == "penultimate"
        found = self.model(
            input_ids=ids, attention_mask=mask.long(), output_hidden_states=wants_all
        )
        hidden: Tensor = found.hidden_states[-2] if wants_all else found.last_hidden_state
        return hidden
