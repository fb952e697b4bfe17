"""Models of transformers from local folders: no downloads, and no weight left random."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from open_imagen.errors import CheckpointError, MissingDependency
from open_imagen.storage import sha256


def load_pretrained(kind: str, folder: Path) -> Any:
    """A model in evaluation mode, by the name of its class in transformers.

    Raises:
        MissingDependency: transformers cannot load such a model.
        CheckpointError: the folder does not hold one; the message says what is wrong.
    """
    _check_folder(folder)
    try:
        import transformers

        chosen = getattr(transformers, kind)
    except (ImportError, AttributeError, RuntimeError) as error:
        raise MissingDependency(
            f"transformers cannot load {kind} ({error}).",
            "If torchvision is installed, remove it or install the build that matches torch.",
        ) from error
    try:
        with _quiet():
            model, info = chosen.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # wrong folders fail in as many ways as there are models
        raise CheckpointError(
            f"{folder} does not hold weights for {kind}: {_first_line(error)}",
            "It needs config.json and weights as safetensors, as transformers saves them.",
        ) from error
    missing = sorted(info["missing_keys"]) + sorted(str(k[0]) for k in info["mismatched_keys"])
    if missing:
        raise CheckpointError(
            f"The weights in {folder} are of another model than its config.json describes: "
            f"{len(missing)} tensors are missing or have another shape, {missing[0]} among them.",
            "Copy the whole folder of one model again.",
        )
    return model.eval().requires_grad_(False)


def load_processor(folder: Path) -> Any:
    """What prepares images and text for the model in a folder.

    Raises:
        CheckpointError: the folder has none.
    """
    _check_folder(folder)
    from transformers import AutoProcessor

    try:
        with _quiet():
            return AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
                folder, local_files_only=True
            )
    except Exception as error:  # see above
        raise CheckpointError(
            f"{folder} has no processor for images and text: {_first_line(error)}",
            "It needs preprocessor_config.json or processor_config.json, and the tokenizer's "
            "files.",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars and notes of transformers: what matters becomes an error of ours."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def weights_hash(folder: Path) -> str:
    """SHA-256 of the weights in a folder; of several files, of their hashes in order."""
    digests = [sha256(file) for file in sorted(folder.glob("*.safetensors"))]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _check_folder(folder: Path) -> None:
    hint = "Give the path of a folder that transformers saved; nothing is downloaded."
    if not folder.is_dir():
        raise CheckpointError(f"There is no folder {folder} with weights.", hint)
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(f"{folder} holds no weights (*.safetensors).", hint)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
