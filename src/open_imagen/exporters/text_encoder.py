"""The text encoder of a cascade in the layout of transformers."""

import re
from pathlib import Path
from typing import Any

from open_imagen.cascade.cascade import Cascade
from open_imagen.errors import ConfigError
from open_imagen.storage import link_or_copy, load_tensors, read_json, save_tensors, write_json
from open_imagen.text.bert import Bert
from open_imagen.text.cache import OnDemand
from open_imagen.text.encoders import ENCODERS, EncoderSpec
from open_imagen.text.files import find_folder, open_tokenizer
from open_imagen.text.hub import weights_of

CLASSES = {"bert": "BertModel", "t5": "T5EncoderModel", "clip": "CLIPTextModel"}
"""Of transformers, by family of encoders."""


def encoder_folder(cascade: Cascade) -> Path:
    """Where the files of a cascade's text encoder are.

    Raises:
        ConfigError: its text encoder is an object of the user's, without files.
        MissingDependency: they are nowhere.
    """
    own = cascade.text.encoder
    spec = ENCODERS[cascade.config.encoder]
    if not isinstance(own, OnDemand) and not hasattr(own, "folder"):
        raise ConfigError(
            f"The cascade's text encoder is a {type(own).__name__} given in Python; it has no "
            "files to export.",
            "Export with text_encoder=False and give the pipeline prompt_embeds.",
        )
    return find_folder(cascade.config.encoder, spec, cascade.encoder_folder)


def write_text_encoder(cascade: Cascade, folder: Path) -> None:
    """Write the text encoder as transformers reads it."""
    source, spec = encoder_folder(cascade), ENCODERS[cascade.config.encoder]
    if spec.family == "bert":
        _write_bert(source, spec, folder)
        return
    weights = weights_of(source)
    # Without the variant's part in their names: diffusers reads the plain ones.
    dotted = f".{weights.variant}" if weights.variant else ""
    if weights.index is None:
        link_or_copy(weights.files[0], folder / "model.safetensors")
    else:
        for file in weights.files:
            link_or_copy(file, folder / file.name)
        link_or_copy(weights.index, folder / weights.index.name.replace(f"{dotted}.json", ".json"))
    link_or_copy(source / "config.json", folder / "config.json")


def _write_bert(source: Path, spec: EncoderSpec, folder: Path) -> None:
    """The layers that are used of a BERT, or the random vectors that stand for one."""
    config: dict[str, Any] = dict(read_json(source / "config.json"))
    tensors = load_tensors(source / "model.safetensors")
    if spec.layers is not None:
        config["num_hidden_layers"] = spec.layers
        tensors = {n: t for n, t in tensors.items() if _layer_of(n) < spec.layers}
    if not spec.trained:
        fresh = {
            f"embeddings.{k}": t for k, t in Bert.fresh(source).embeddings.state_dict().items()
        }
        tensors = {name: fresh.get(name, tensor) for name, tensor in tensors.items()}
    save_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    write_json(folder / "config.json", config | {"architectures": ["BertModel"]})


def _layer_of(name: str) -> int:
    """The layer that a weight of a BERT belongs to; -1 for none."""
    found = re.search(r"encoder\.layer\.(\d+)\.", name)
    return int(found[1]) if found else -1


def write_tokenizer(cascade: Cascade, folder: Path) -> None:
    """Write the tokenizer as tokenizer.json, which cuts and pads nothing by itself."""
    spec = ENCODERS[cascade.config.encoder]
    tokenizer = open_tokenizer(encoder_folder(cascade), spec.repository)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 10**9}
    write_json(folder / "tokenizer_config.json", settings)
