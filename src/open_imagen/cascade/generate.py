"""From requests to images: encode the prompts, then sample stage by stage in batches."""

import contextlib
import threading
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from open_imagen.cascade.checks import SEED_LIMIT
from open_imagen.cascade.denoiser import Watch
from open_imagen.cascade.images import to_uint8
from open_imagen.cascade.memory import check_memory
from open_imagen.cascade.progress import Progress
from open_imagen.cascade.prompts import EncodedPrompt, PromptEncoder, plain_prompt
from open_imagen.cascade.requests import ImageRequest, StageRequest, StageStart
from open_imagen.cascade.runtime import RuntimeConfig
from open_imagen.cascade.sampling import ResolvedSampling
from open_imagen.cascade.stage import Stage, image_size
from open_imagen.cascade.variants import StageVariants
from open_imagen.cascade.variations import MixedNoise, NoiseSource
from open_imagen.diffusion.editing import StartImage
from open_imagen.errors import CheckpointError
from open_imagen.text.letters import with_letters
from open_imagen.types import TextEmbedding, stack_texts


class ImageGenerator:
    """The stages of a cascade and the encoder of its prompts, on a device."""

    def __init__(
        self, variants: Mapping[str, StageVariants], prompts: PromptEncoder, runtime: RuntimeConfig
    ) -> None:
        """Take over the stages.

        Args:
            variants: the stages by name, lowest resolution first, changed by none but this
                generator.
        """
        self.variants, self.prompts, self.runtime = variants, prompts, runtime
        self.device = runtime.torch_device()
        stages = [one.default for one in variants.values()]
        parameters = (tensor for stage in stages for tensor in stage.parameters())
        self.offload = runtime.needs_offload(parameters, self.device)
        """Whether only the encoder or one stage is in memory at a time."""
        # Threads that offload would take each other's weights away.
        self._turn = threading.RLock() if self.offload else contextlib.nullcontext()
        if not self.offload:
            for stage in stages:
                self._load_weights(stage)

    def run(
        self,
        stages: Sequence[Stage],
        requests: Sequence[ImageRequest],
        settings: Mapping[str, ResolvedSampling],
        start: Tensor | None = None,
        size: tuple[int, int] | None = None,
        batch_size: int = 16,
        progress: Progress | None = None,
        starts: Mapping[str, StageStart] | None = None,
    ) -> dict[str, Tensor]:
        """The images of each stage, uint8 [N, C, H, W] on the CPU.

        Args:
            start: the low-resolution images of the first stage, uint8 [N, C, h, w].
            size: width and height of the first stage's images otherwise; None: as it was trained.
            starts: by stage, an image that all begin with (edits).

        Raises:
            ConfigError: the images cannot fit the free memory.
        """
        first = image_size(stages[0].config, start, size)
        at_once = min(len(requests), batch_size)
        check_memory(stages, first, at_once, settings, self.device)
        with self._turn:
            return self._run(stages, requests, settings, start, size, batch_size, progress, starts)

    def _run(
        self,
        stages: Sequence[Stage],
        requests: Sequence[ImageRequest],
        settings: Mapping[str, ResolvedSampling],
        start: Tensor | None,
        size: tuple[int, int] | None,
        batch_size: int,
        progress: Progress | None,
        starts: Mapping[str, StageStart] | None,
    ) -> dict[str, Tensor]:
        prompts = self.encode(requests, stages)
        images: dict[str, Tensor] = {}
        below = start
        for stage in stages:
            name = stage.config.name
            asked = [
                StageRequest(
                    *(one.prompt, one.seed, settings[name], one.negative),
                    below=None if below is None else below[k],
                    size=size,
                    start=(starts or {}).get(name),
                    variations=one.variations,
                    prompt_weights=one.prompt_weights,
                )
                for k, one in enumerate(requests)
            ]
            stage = self.variants[name].get(settings[name].adapter)
            self._load_weights(stage)
            batches = batches_of(len(requests), batch_size)
            sampled = [
                self._sample(
                    stage, asked[rows], prompts[rows], report(progress, name, k, len(batches))
                )
                for k, rows in enumerate(batches)
            ]
            if self.offload:
                self.variants[name].offload()
            below = images[name] = torch.cat(sampled)
        return images

    def draw(
        self, stage: Stage, requests: Sequence[StageRequest], watch: Watch | None = None
    ) -> Tensor:
        """One batch of one stage: uint8 [B, C, H, W] on the CPU.

        Images may differ in whatever `ResolvedSampling.together` leaves out; all have one size.
        """
        stage = self.variants[stage.config.name].get(requests[0].settings.adapter)
        prompts = self.encode(requests, [stage])
        self._load_weights(stage)
        return self._sample(stage, requests, prompts, watch)

    def encode(
        self, requests: Sequence[ImageRequest | StageRequest], stages: Sequence[Stage]
    ) -> list[EncodedPrompt]:
        """The prompts of requests as these stages read them.

        Raises:
            CheckpointError: a stage reads tokens of another width.
        """
        prompts = [one.prompt for one in requests]
        negatives = [one.negative for one in requests]
        weights = [one.prompt_weights for one in requests]
        plain = [
            plain_prompt(text, one.prompt_weights)
            for one in requests
            for text in (one.prompt, one.negative)
            if text
        ]
        empty = any(stage.config.unconditional == "empty" for stage in stages)
        if self.offload and not self.prompts.knows(plain):
            for variants in self.variants.values():
                variants.offload()
        encoded = self.prompts.encode(prompts, negatives, empty, weights)
        for stage in stages:
            check_width(stage, encoded[0].tokens.shape[1], self.prompts.text.name)
        if self.offload:
            self.prompts.release()
        return encoded

    def _load_weights(self, stage: Stage) -> None:
        stage.load_weights(self.device, self.runtime.torch_dtype, self.runtime.fast)

    def _sample(
        self,
        stage: Stage,
        requests: Sequence[StageRequest],
        prompts: Sequence[EncodedPrompt],
        watch: Watch | None,
    ) -> Tensor:
        start = stack_starts([one.start for one in requests if one.start], self.device)
        if start is not None and not start.strength:
            return to_uint8(start.image).cpu()
        lowres = None
        if stage.config.lowres:
            small = [one.below for one in requests if one.below is not None]
            lowres = torch.stack(small).to(self.device).float() / 127.5 - 1
        text = embedding([one.tokens for one in prompts])
        sampled = stage.sample(
            with_letters(text, [one.prompt for one in prompts], stage.letters).to(self.device),
            [self._noise(one, stage) for one in requests],
            [one.settings for one in requests],
            lowres,
            self._negative(stage, prompts),
            watch,
            requests[0].size,
            start,
        )
        return to_uint8(sampled).cpu()

    def _negative(self, stage: Stage, prompts: Sequence[EncodedPrompt]) -> TextEmbedding | None:
        """What guidance leads away from, one for each image; None: zeroed text for all."""
        empty = stage.config.unconditional == "empty"
        if not empty and not any(one.negative for one in prompts):
            return None
        texts = []
        for one in prompts:
            tokens = one.tokens if one.negative_tokens is None else one.negative_tokens
            text = with_letters(embedding([tokens]), [one.negative], stage.letters)
            texts.append(text if empty or one.negative else text.null())
        return stack_texts(texts).to(self.device)

    def _noise(self, request: StageRequest, stage: Stage) -> NoiseSource:
        """The noise of one image in one stage: other stages neither shift nor share it."""
        position = list(self.variants).index(stage.config.name)

        def generator(seed: int) -> torch.Generator:
            shifted = (seed + position * 0x9E3779B97F4A7C15) % SEED_LIMIT
            return torch.Generator().manual_seed(shifted)

        noise: NoiseSource = generator(request.seed)
        for seed, amount in request.variations:
            noise = MixedNoise(noise, generator(seed), amount)
        return noise


def stack_starts(starts: Sequence[StageStart], device: torch.device) -> StartImage | None:
    """What the images of a batch begin with; None where it is noise alone."""
    if not starts:
        return None
    assert all(one.together == starts[0].together for one in starts), "cannot share a batch"
    images = torch.stack([one.image for one in starts]).to(device).float() / 127.5 - 1
    masks = [one.mask for one in starts if one.mask is not None]
    mask = torch.stack(masks).to(device) if masks else None
    common = starts[0]
    return StartImage(images, common.strength, mask, common.resample, common.known)


def embedding(tokens: Sequence[Tensor]) -> TextEmbedding:
    """Captions' tokens [L, C] as one embedding, on the CPU."""
    return TextEmbedding.of(tokens).to("cpu", torch.float32)


def check_width(stage: Stage, width: int, encoder: str) -> None:
    """Raises CheckpointError unless a stage reads tokens of this width."""
    if stage.network_config.text_width != width:
        raise CheckpointError(
            f"Stage {stage.config.name} reads tokens of width "
            f"{stage.network_config.text_width}; those of {encoder} have {width}."
        )


def batches_of(number: int, size: int) -> list[slice]:
    """``number`` images in batches of at most ``size``."""
    return [slice(start, min(start + size, number)) for start in range(0, number, size)]


def report(progress: Progress | None, stage: str, batch: int, number: int) -> Watch | None:
    """Progress of one batch of ``number`` as a part of the whole stage."""
    if progress is None:
        return None

    def watch(step: int, steps: int, preview: Tensor) -> Tensor | None:
        return progress(stage, batch * steps + step, number * steps, preview)

    return watch
