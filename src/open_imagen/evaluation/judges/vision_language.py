"""P(answer | image, question) from any vision-language model of transformers."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from open_imagen.errors import CheckpointError
from open_imagen.evaluation.pretrained import load_pretrained, load_processor, weights_hash

BATCH = 8
"""Images that are asked the same question together; none is padded."""


class VisionLanguageModel:
    """A model that AutoModelForImageTextToText knows, from a folder.

    A question goes in as the user's turn of the model's own chat template, or as it is where the
    model has none. The probability of an answer is the product over its tokens.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load the model and its processor.

        Raises:
            MissingDependency: transformers cannot load such models.
            CheckpointError: the folder does not hold one.
        """
        self.model = load_pretrained("AutoModelForImageTextToText", folder).to(device)
        self.processor = load_processor(folder)
        if not hasattr(self.processor, "tokenizer"):
            raise CheckpointError(
                f"{folder} has no tokenizer: its model cannot be asked anything.",
                "Copy the tokenizer's files of the model into the folder.",
            )
        self.device, self.name = device, folder.resolve().name
        self.identity: dict[str, Any] = {
            "model": self.model.config.model_type,
            "weights_sha256": weights_hash(folder),
            "chat_template": self.has_template,
        }

    @property
    def has_template(self) -> bool:
        """Whether the processor has a chat template."""
        return bool(getattr(self.processor, "chat_template", None))

    def probabilities(
        self, images: Sequence[Image.Image], question: str, answer: str
    ) -> list[float]:
        """P(answer | image, question) for each image."""
        return [float(value.exp()) for value in self.log_probabilities(images, question, answer)]

    def log_probabilities(
        self, images: Sequence[Image.Image], question: str, answer: str
    ) -> list[Tensor]:
        """Log-probabilities of an answer for each image, float64."""
        found: dict[int, Tensor] = {}
        for rows in _same_size(images):
            inputs = self._inputs([images[k] for k in rows], question)
            for k, value in zip(rows, self._score(inputs, answer), strict=True):
                found[k] = value
        return [found[k] for k in range(len(images))]

    def _inputs(self, images: Sequence[Image.Image], question: str) -> dict[str, Any]:
        if self.has_template:
            turns = [
                [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "image": image},
                            {"type": "text", "text": question},
                        ],
                    }
                ]
                for image in images
            ]
            inputs = self.processor.apply_chat_template(
                turns,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        else:
            inputs = self.processor(
                images=list(images), text=[question] * len(images), return_tensors="pt"
            )
        return dict(inputs.to(self.device))

    @torch.inference_mode()
    def _score(self, inputs: dict[str, Any], answer: str) -> Tensor:
        """Log-probabilities [B] of the answer's tokens after the inputs."""
        tokens = self.processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
        if not tokens:
            raise CheckpointError(f"The tokenizer of {self.name} has no token for {answer!r}.")
        count = len(inputs["input_ids"])
        ids = torch.tensor(tokens, device=self.device).expand(count, -1)
        if (start := self._decoder_start()) is not None:
            first = torch.full_like(ids[:, :1], start)
            decoder = torch.cat([first, ids[:, :-1]], 1)
            logits = self.model(**inputs, decoder_input_ids=decoder).logits
        else:
            logits = self.model(**_extended(inputs, ids[:, :-1])).logits
        logs = logits[:, -len(tokens) :].double().log_softmax(-1)
        found: Tensor = logs.gather(-1, ids[..., None])[..., 0].sum(-1)
        return found.cpu()

    def _decoder_start(self) -> int | None:
        """The first token of the decoder, of models that have an encoder for text."""
        config = self.model.config
        text = config.get_text_config()
        if not (config.is_encoder_decoder or getattr(text, "is_encoder_decoder", False)):
            return None
        generation = getattr(self.model, "generation_config", None)
        for holder in (generation, text, config):
            start = getattr(holder, "decoder_start_token_id", None)
            if start is not None:
                return int(start)
        raise CheckpointError(f"The config of {self.name} has no decoder_start_token_id.")


def _same_size(images: Sequence[Image.Image]) -> Iterator[list[int]]:
    """Numbers of images that may share a batch without padding."""
    groups: dict[tuple[int, int], list[int]] = {}
    for k, image in enumerate(images):
        groups.setdefault(image.size, []).append(k)
    for rows in groups.values():
        for start in range(0, len(rows), BATCH):
            yield rows[start : start + BATCH]


def _extended(inputs: dict[str, Any], tokens: Tensor) -> dict[str, Any]:
    """Inputs with tokens after the prompt; whatever runs along the tokens grows with them."""
    if not tokens.shape[1]:
        return inputs
    shape = inputs["input_ids"].shape
    longer = dict(inputs)
    for name, value in inputs.items():
        if isinstance(value, Tensor) and value.shape == shape:
            more = torch.ones_like(tokens) if name == "attention_mask" else tokens
            if name not in ("attention_mask", "input_ids"):
                more = torch.zeros_like(tokens)
            longer[name] = torch.cat([value, more.to(value.dtype)], 1)
    return longer
