"""A cascade: sentences -> 64 -> 256 -> 1024. generate(), upscale(), save(), load()."""

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from open_imagen.cascade import deepfloyd
from open_imagen.cascade.alpha import parse_background, to_image
from open_imagen.cascade.folder import (
    Adapter,
    adapted_hash,
    fingerprint,
    locate,
    merge,
    read_adapter,
    read_adapters,
    read_header,
    read_stages,
    write_folder,
)
from open_imagen.cascade.sampling import Sampling
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.variants import variants_of
from open_imagen.config import plain
from open_imagen.devices import free_memory, pick_device
from open_imagen.errors import CheckpointError, ConfigError, OpenImagenWarning, UnknownName
from open_imagen.text.cache import OnDemand, Remembered
from open_imagen.text.encoders import ENCODERS, load_encoder
from open_imagen.text.letters import with_letters
from open_imagen.types import TextEmbedding, TextEncoder, stack_texts
from open_imagen.version import __version__
from open_imagen.world import Reading, World, is_world, open_world

Progress = Callable[[str, int, int, Tensor], None]
SEED_LIMIT = 2**63
MOST_READINGS = 4096
"""How many prompts are remembered as the world has read them."""
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class GenerationOutput:
    """What generate() and upscale() return. Everything is prompt-major.

    images    PIL pictures of the last stage; RGBA only if a transparent background was asked for
    stages    stage name -> uint8 [N, C, H, W]: RGB, or premultiplied RGBA of a model with alpha
    records   per picture: prompt, seed, settings, model hash, version
    """

    images: list[Image.Image]
    stages: dict[str, Tensor]
    records: list[dict[str, Any]]


class StageRequest(NamedTuple):
    """A picture that a stage shall make."""

    prompt: str
    seed: int
    settings: Sampling
    """Nothing left open."""
    negative: str = ""
    below: Tensor | None = None
    """The picture to be enlarged, uint8 [C, h, w]."""
    size: tuple[int, int] | None = None
    """Width and height of a base's picture; what it was trained for if None."""


class Cascade:
    """A frozen text encoder and its stages, lowest resolution first."""

    def __init__(
        self,
        name: str,
        encoder: str,
        stages: Sequence[Stage],
        model_hash: str = "unsaved",
        device: str = "auto",
        text: TextEncoder | None = None,
        trained: dict[str, Any] | None = None,
        encoder_folder: Path | None = None,
        sequential_offload: bool | None = None,
        fast: bool = False,
        precision: str = "fp32",
        default_stages: int | None = None,
        world: str = "",
        adapters: Sequence[Adapter] = (),
    ) -> None:
        """
        Args:
            encoder: its name in the table of text encoders; loaded when first needed.
            text: an encoder to use instead.
            trained: per stage, what it has learned from.
            encoder_folder: where the encoder's files are, if that is known.
            sequential_offload: hold in memory only what computes, the encoder or one stage, and
                load the weights again when they are needed; None: only if not everything fits.
            fast: compute as fast as this device can, the same to 1e-4 (docs/speed.md).
            precision: of the networks, fp32 or bf16: half the memory, faster where the hardware
                has it, and pictures a little different.
            default_stages: how many stages run where nobody says; all if None.
            world: the name of the world whose prompts it knows, if it has one.
            adapters: named ones; the first of a stage is used where nobody says which.

        Raises:
            CheckpointError: an adapter does not fit; the stages do not follow each other, or are fewer than the default.
            MissingDependency: ``fast`` on a CPU, without a C++ compiler.
            UnknownName: no such precision.
        """
        if precision not in PRECISIONS:
            raise UnknownName("precision", precision, PRECISIONS)
        for below, above in pairwise(stages):
            if above.config.lowres != below.config.resolution:
                raise CheckpointError(
                    f"Stage {above.config.name} enlarges {above.config.lowres}-pixel pictures, but "
                    f"{below.config.name} makes {below.config.resolution}-pixel ones."
                )
            if above.channels != below.channels:
                raise CheckpointError(
                    f"Stage {above.config.name} has images of {above.channels} channels, "
                    f"{below.config.name} of {below.channels}."
                )
        if default_stages is not None and not 1 <= default_stages <= len(stages):
            raise CheckpointError(
                f"The model {name!r} has {len(stages)} stages; its default_stages = "
                f"{default_stages} must be between 1 and that."
            )
        self.default_stages = default_stages
        self.world_name = world
        self._readings: dict[str, Reading] = {}
        self.name, self.encoder_name, self.model_hash = name, encoder, model_hash
        self.trained = trained or {}
        self.device = pick_device(device)
        self.variants = variants_of(stages, adapters)
        """Each stage with and without its named adapters: ``variants["base"].own`` is the stage
        without any."""
        self.stages = {name: one.default for name, one in self.variants.items()}
        self.has_alpha = any(stage.channels == 4 for stage in stages)
        """Whether its images have an alpha channel."""
        self.precision = precision
        for stage in self._all_stages():
            stage.fast, stage.dtype = fast, PRECISIONS[precision]
        self.encoder_folder = encoder_folder
        self._own_encoder = None
        if text is None:
            row = ENCODERS[encoder]

            def make() -> TextEncoder:
                return load_encoder(encoder, self.device, encoder_folder)

            text = self._own_encoder = OnDemand(encoder, row.width, row.max_length, make)
        self.text = Remembered(text)
        """The text encoder; each of its latest sentences (all, without a limit) is encoded once."""
        self.sequential_offload = (
            self._too_large() if sequential_offload is None else sequential_offload
        )
        if not self.sequential_offload:
            for stage in self.stages.values():
                stage.load_weights(self.device)

    def _all_stages(self) -> list[Stage]:
        """All stages, with every adapter and without."""
        return [stage for one in self.variants.values() for stage in one.stages.values()]

    def stage(self, name: str, adapter: str | None = None) -> Stage:
        """A stage with one of its named adapters; "none": without; None: the model's default.

        Raises:
            UnknownName: there is no such stage or adapter.
        """
        if name not in self.variants:
            raise UnknownName("stage", name, self.variants)
        return self.variants[name].get(adapter)

    @property
    def world(self) -> World | None:
        """What knows the prompts of this model; None without one that this version has."""
        return open_world(self.world_name) if is_world(self.world_name) else None

    def read(self, prompt: str) -> Reading:
        """A prompt in the English that the model has learned; the prompt itself without a world."""
        if prompt not in self._readings:
            if len(self._readings) >= MOST_READINGS:
                self._readings.clear()
            world = self.world
            self._readings[prompt] = Reading(prompt) if world is None else world.read(prompt)
        return self._readings[prompt]

    def hint(self, prompt: str) -> str | None:
        """What the model does not know of a prompt, with the nearest words that it knows."""
        world = self.world
        return None if world is None else world.hint(prompt, self.text.encoder)

    def _warn(self, prompts: Sequence[str]) -> None:
        for prompt in dict.fromkeys(prompts):
            if hint := self.hint(prompt):
                warnings.warn(hint, OpenImagenWarning, stacklevel=4)

    def _too_large(self) -> bool:
        """Whether the stages together take more than half of the free memory."""
        numbers = sum(p.numel() for stage in self.stages.values() for p in stage.parameters())
        return PRECISIONS[self.precision].itemsize * numbers > free_memory(self.device) / 2

    def generate(
        self,
        prompts: str | Sequence[str],
        seed: int | Sequence[int] = 0,
        images_per_prompt: int = 1,
        negative: str | None = None,
        stages: int | None = None,
        settings: Mapping[str, Sampling] | None = None,
        progress: Progress | None = None,
        batch_size: int = 16,
        size: tuple[int, int] | None = None,
        background: str | None = None,
    ) -> GenerationOutput:
        """Make pictures of sentences.

        Picture k of the call has seed ``seed + k``. It depends on the model, its prompt and
        negative prompt, its seed and the settings, and on nothing else.

        Args:
            seed: of the first picture, or one for each.
            negative: what guidance leads away from; without it, zeroed text.
            stages: how many stages to run; the model's default if None, which is mostly all.
            settings: per stage name, over the model's defaults.
            progress: told (stage, step, steps, estimate [B, 3, H, W]) while sampling.
            batch_size: pictures made together; no picture depends on it.
            size: width and height of the finished pictures: multiples of 8 for a base alone, of 64
                with super-resolution. What the stages were trained for if None. The resolution of
                a stage, without ``stages``, means: up to that stage.
            background: of a model with alpha, what is behind what it leaves transparent: white if
                None, "transparent", or "#rrggbb".

        Raises:
            ConfigError: an empty prompt, or a setting that is unknown or out of range.
        """
        self.check_background(background)
        sentences = [prompts] if isinstance(prompts, str) else list(prompts)
        chosen, first = self.plan(stages, size)
        if chosen[0].config.lowres:
            raise ConfigError(
                f"The model {self.name!r} begins with {chosen[0].config.name}, which enlarges "
                "pictures; it cannot make them from text alone.",
                "Use upscale, or a model with a base stage.",
            )
        if images_per_prompt < 1:
            raise ConfigError(f"images_per_prompt = {images_per_prompt} must be at least 1.")
        captions = [s for s in check_prompts(sentences) for _ in range(images_per_prompt)]
        return self._run(
            captions,
            seed,
            negative,
            chosen,
            settings,
            progress,
            batch_size,
            size=first,
            background=background,
        )

    def upscale(
        self,
        image: Image.Image,
        prompt: str,
        seed: int = 0,
        negative: str | None = None,
        settings: Mapping[str, Sampling] | None = None,
        progress: Progress | None = None,
        background: str | None = None,
    ) -> GenerationOutput:
        """Enlarge a picture with the super-resolution stages alone.

        Its centre square is scaled to the input of the largest stage that it can feed, and made as
        large as the model's pictures are by default, or, if it is that already, a stage larger.

        Raises:
            ConfigError: the model has no such stage, or the picture is too small for it.
        """
        self.check_background(background)
        chosen, start = self.start_of(image)
        captions = check_prompts([prompt])
        return self._run(
            captions,
            seed,
            negative,
            chosen,
            settings,
            progress,
            1,
            start,
            background=background,
        )

    def check_background(self, background: str | None) -> None:
        """Raises ConfigError unless this model's images can have such a background."""
        parse_background(background)
        if background is not None and not self.has_alpha:
            raise ConfigError(
                f"background = {background!r}: the images of {self.name!r} have no transparency.",
                "Leave it out, or name the background in the prompt.",
            )

    def start_of(self, image: Image.Image) -> tuple[list[Stage], Tensor]:
        """The stages that enlarge a picture, and what the first of them begins with, [1, C, h, w].

        Raises:
            ConfigError: there is no such stage, or the picture is too small.
        """
        enlarging = [stage for stage in self.stages.values() if stage.config.lowres]
        if not enlarging:
            raise ConfigError(f"The model {self.name!r} has no super-resolution stage.")
        side = min(image.size)
        fitting = [i for i, stage in enumerate(enlarging) if stage.config.lowres <= side]
        if not fitting:
            raise ConfigError(
                f"The picture is {image.width}x{image.height}; {enlarging[0].config.name} needs "
                f"at least {enlarging[0].config.lowres}x{enlarging[0].config.lowres}."
            )
        first, usual = fitting[-1], sum(bool(stage.config.lowres) for stage in self.chosen(None))
        chosen = enlarging[first : max(usual, first + 1)]
        # "RGBa" is premultiplied: hidden colours leave no fringe when the image is scaled.
        premultiplied = chosen[0].channels == 4
        image = image.convert("RGBA").convert("RGBa") if premultiplied else image.convert("RGB")
        small = ImageOps.fit(image, (chosen[0].config.lowres,) * 2, Image.Resampling.BOX)
        return chosen, torch.from_numpy(np.array(small)).permute(2, 0, 1)[None]

    def chosen(self, number: int | None) -> list[Stage]:
        """The first stages; as many as the model has by default if None.

        Raises:
            ConfigError: there are not as many.
        """
        stages = list(self.stages.values())
        if number is not None and not 1 <= number <= len(stages):
            raise ConfigError(
                f"stages = {number}, but the model {self.name!r} has {len(stages)}: "
                f"{', '.join(self.stages)}."
            )
        return stages[: self.default_stages if number is None else number]

    def plan(
        self, number: int | None, size: tuple[int, int] | None
    ) -> tuple[list[Stage], tuple[int, int] | None]:
        """The stages to run for a number and a size, and the size of the first one's pictures,
        None where it is what that stage was made for. See generate.

        Raises:
            ConfigError: there are not as many stages, or no such size can be made.
        """
        chosen = self.chosen(number)
        if size is None:
            return chosen, None
        sides = [stage.config.resolution for stage in self.stages.values()]
        if number is None and size[0] == size[1] and size[0] in sides:
            return self.chosen(sides.index(size[0]) + 1), None
        return chosen, first_size(size, chosen)

    def complete_settings(
        self,
        chosen: Sequence[Stage],
        settings: Mapping[str, Sampling] | None,
        negative: str | None = None,
    ) -> dict[str, Sampling]:
        """Settings of these stages over the model's defaults, nothing left open.

        Raises:
            UnknownName: settings for a stage that the model does not have.
            ConfigError: a negative prompt, and no guidance that could lead away from it.
        """
        given = dict(settings or {})
        for name in given:
            if name not in self.stages:
                raise UnknownName("stage", name, self.stages)
        complete = {
            stage.config.name: self._complete(stage, given.get(stage.config.name, Sampling()))
            for stage in chosen
        }
        for stage in chosen:
            name, highest = stage.config.name, stage.config.augmentation.highest
            if (level := complete[name].noise_level) is not None and level > highest:
                warnings.warn(
                    f"noise_level = {level}, but {name} of {self.name!r} has learned to enlarge "
                    f"pictures with noise up to {highest}: these may turn out rough.",
                    OpenImagenWarning,
                    stacklevel=4,
                )
        if negative and all(one.guidance == 1 for one in complete.values()):
            raise ConfigError(
                f"The negative prompt {negative!r} would change nothing: only guidance leads away "
                f"from it, and the guidance of {', '.join(complete)} is 1, which is off.",
                "Leave it out, or set a guidance above 1.",
            )
        return complete

    def _complete(self, stage: Stage, given: Sampling) -> Sampling:
        """Settings over the defaults of the stage with the adapter that they ask for."""
        defaults = self.stage(stage.config.name, given.adapter).config.sampling
        return dataclasses.replace(given, adapter=defaults.adapter).over(defaults).complete()

    def _run(
        self,
        captions: list[str],
        seed: int | Sequence[int],
        negative: str | None,
        chosen: Sequence[Stage],
        settings: Mapping[str, Sampling] | None,
        progress: Progress | None,
        batch_size: int,
        start: Tensor | None = None,
        size: tuple[int, int] | None = None,
        background: str | None = None,
    ) -> GenerationOutput:
        """Walk the stages; ``start`` is the first one's low-resolution input, uint8, or ``size``
        (width, height) that of its pictures."""
        seeds = check_seeds(seed, len(captions))
        if batch_size < 1:
            raise ConfigError(f"batch_size = {batch_size} must be at least 1.")
        complete = self.complete_settings(chosen, settings, negative)
        self._warn(captions)
        self.prepare(captions, negative, chosen)
        pictures: dict[str, Tensor] = {}
        below = start
        for stage in chosen:
            orders = [
                StageRequest(
                    caption,
                    seeds[k],
                    complete[stage.config.name],
                    negative or "",
                    None if below is None else below[k],
                    size,
                )
                for k, caption in enumerate(captions)
            ]
            parts = [
                self.draw(stage, orders[rows], _watch(progress, stage, rows, len(captions)))
                for rows in _chunks(len(captions), batch_size)
            ]
            if self.sequential_offload:
                for variant in self.variants[stage.config.name].stages.values():
                    variant.offload()
            below = torch.cat(parts)
            pictures[stage.config.name] = below

        assert below is not None
        images = [to_image(pixels, parse_background(background)) for pixels in below]
        made_by = "upscale" if start is not None else "generate"
        records = [
            self.record(caption, negative, seeds[k], images[k].size, complete, made_by, background)
            for k, caption in enumerate(captions)
        ]
        return GenerationOutput(images, pictures, records)

    def record(
        self,
        prompt: str,
        negative: str | None,
        seed: int,
        size: tuple[int, int],
        settings: Mapping[str, Sampling],
        made_by: str = "generate",
        background: str | None = None,
    ) -> dict[str, Any]:
        """What a picture says of itself: all it takes to repeat it."""
        read_as = self.read(prompt).prompt
        return {
            "prompt": prompt,
            **({} if read_as == prompt else {"read_as": read_as}),
            "negative": negative or "",
            "seed": seed,
            "size": f"{size[0]}x{size[1]}",
            "settings": {name: plain_sampling(one) for name, one in settings.items()},
            "made_by": made_by,
            "model": self.name,
            "model_hash": self.model_hash,
            "version": __version__,
            **({} if self.precision == "fp32" else {"precision": self.precision}),
            **({} if background is None else {"background": background}),
        }

    @property
    def identity(self) -> dict[str, Any]:
        """What its pictures hang on beside prompts, seeds and settings."""
        return {
            "model": self.name,
            "model_hash": self.model_hash,
            "precision": self.precision,
        }

    def prepare(
        self, captions: Sequence[str], negative: str | None, chosen: Sequence[Stage]
    ) -> None:
        """Encode captions ahead of drawing; if not all fits in memory, with the stages offloaded.

        Raises:
            CheckpointError: a stage listens to tokens of another width.
        """
        captions = [self.read(caption).prompt for caption in captions]
        negative = self.read(negative).prompt if negative else negative
        if negative or any(stage.config.unconditional == "empty" for stage in chosen):
            captions.append(negative or "")
        if self.sequential_offload and not self.text.knows(captions):
            for stage in self._all_stages():
                stage.offload()
        self._check_width(self.text(captions), chosen)
        if self.sequential_offload and self._own_encoder is not None:
            self._own_encoder.release()

    def draw(
        self,
        stage: Stage,
        orders: Sequence["StageRequest"],
        watch: Callable[[int, int, Tensor], None] | None = None,
    ) -> Tensor:
        """One batch of one stage: uint8 [B, C, H, W] on the CPU.

        Pictures may differ in whatever `Sampling.together` leaves out; all have the same size.
        """
        stage = self.stage(stage.config.name, orders[0].settings.adapter)
        negatives = [one.negative for one in orders if one.negative]
        self.prepare([*(one.prompt for one in orders), *negatives], None, [stage])
        stage.load_weights(self.device)
        prompts = [self.read(one.prompt).prompt for one in orders]
        text = with_letters(self.text(prompts), prompts, stage.letters).to(self.device)
        lowres = None
        if stage.config.lowres:
            small = [one.below for one in orders if one.below is not None]
            lowres = torch.stack(small).to(self.device).float() / 127.5 - 1
        made = stage.sample(
            text,
            [self._generator(one.seed, stage) for one in orders],
            [one.settings for one in orders],
            lowres,
            self._against(stage, orders),
            watch,
            orders[0].size,
        )
        return to_uint8(made).cpu()

    def _against(self, stage: Stage, orders: Sequence["StageRequest"]) -> TextEmbedding | None:
        """What guidance leads away from, one for each; None: zeroed text for all."""
        empty = stage.config.unconditional == "empty"
        if not empty and not any(one.negative for one in orders):
            return None
        negatives = [self.read(one.negative).prompt for one in orders]
        texts = [with_letters(self.text([one]), [one], stage.letters) for one in negatives]
        return stack_texts(
            [
                text if empty or one.negative else text.null()
                for text, one in zip(texts, orders, strict=True)
            ]
        ).to(self.device)

    def _check_width(self, text: TextEmbedding, chosen: Sequence[Stage]) -> None:
        for stage in chosen:
            if stage.network_config.text_width != text.tokens.shape[2]:
                raise CheckpointError(
                    f"Stage {stage.config.name} listens to tokens of width "
                    f"{stage.network_config.text_width}; those of {self.encoder_name} have "
                    f"{text.tokens.shape[2]}."
                )

    def _generator(self, seed: int, stage: Stage) -> torch.Generator:
        """The noise of one picture in one stage: other stages neither shift nor share it."""
        place = list(self.stages).index(stage.config.name)
        return torch.Generator().manual_seed((seed + place * 0x9E3779B97F4A7C15) % SEED_LIMIT)

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write a model folder (see docs/formats.md).

        Args:
            dtype: of the stored weights; float16 halves them.
        """
        stages = [variants.own for variants in self.variants.values()]
        for stage in stages:
            stage.load_weights(self.device)
        write_folder(
            Path(folder),
            self.name,
            self.encoder_name,
            stages,
            dtype,
            self.trained,
            self.default_stages,
            self.world_name,
            [one for variants in self.variants.values() for one in variants.adapters.values()],
        )


def load(
    model: str | Path = "scenes",
    device: str = "auto",
    sequential_offload: bool | None = None,
    adapters: Sequence[str | Path] = (),
    fast: bool = False,
    precision: str = "fp32",
) -> Cascade:
    """A cascade: a shipped model by name, a model folder, a folder of DeepFloyd IF, or
    "hf:org/name".

    Args:
        sequential_offload, fast, precision: see Cascade.
        adapters: folders of low-rank adapters to add to its weights.

    Raises:
        UnknownName: no such model.
        CheckpointError: the folder is damaged, incomplete, or of a newer format; or an adapter
            does not fit.
    """
    folder = locate(model)
    if not (folder / "cascade.json").is_file():
        return published(folder, device, sequential_offload, adapters, fast, precision)
    header = read_header(folder)
    stages = read_stages(folder, header)
    changes = [read_adapter(Path(one)) for one in adapters]
    merge(stages, [one for one in changes if not one.name])
    named = [one for one in changes if one.name] + read_adapters(folder, header)
    return Cascade(
        header["name"],
        header["encoder"],
        stages,
        adapted_hash(fingerprint(folder, header), changes),
        device,
        trained=header.get("trained"),
        encoder_folder=inside if (inside := folder / "text_encoder").is_dir() else None,
        sequential_offload=sequential_offload,
        fast=fast,
        precision=precision,
        default_stages=header.get("default_stages"),
        world=header.get("world", ""),
        adapters=named,
    )


def published(
    folder: str | Path,
    device: str = "auto",
    sequential_offload: bool | None = None,
    adapters: Sequence[str | Path] = (),
    fast: bool = False,
    precision: str = "fp32",
) -> Cascade:
    """A cascade of DeepFloyd IF's published folders; see cascade/deepfloyd.py.

    Raises:
        CheckpointError: it is none of theirs, or something of it is missing, unknown or unsafe.
    """
    found = deepfloyd.read(Path(folder))
    deepfloyd.show_licence()
    changes = [read_adapter(Path(one)) for one in adapters]
    merge(found.stages, [one for one in changes if not one.name])
    return Cascade(
        Path(folder).resolve().name,
        found.encoder,
        found.stages,
        adapted_hash(found.model_hash, changes),
        device,
        encoder_folder=found.text_encoder.folder if found.text_encoder else None,
        sequential_offload=sequential_offload,
        fast=fast,
        precision=precision,
        adapters=[one for one in changes if one.name],
    )


def join(
    name: str,
    folders: Sequence[str | Path],
    device: str = "auto",
    default_stages: int | None = None,
) -> Cascade:
    """One cascade from the stages of several model folders, lowest resolution first.

    Args:
        default_stages: how many of them run where nobody says; all if None.

    Raises:
        CheckpointError: they use different text encoders, or do not follow each other.
    """
    headers = [read_header(locate(folder)) for folder in folders]
    encoders = {header["encoder"] for header in headers}
    if len(encoders) > 1:
        raise CheckpointError(f"These models listen to different encoders: {sorted(encoders)}.")
    stages = [
        stage
        for folder, header in zip(folders, headers, strict=True)
        for stage in read_stages(locate(folder), header)
    ]
    trained: dict[str, Any] = {}
    for header in headers:
        trained |= header.get("trained", {})
    return Cascade(
        name,
        encoders.pop(),
        stages,
        device=device,
        trained=trained,
        default_stages=default_stages,
        world=next((header["world"] for header in headers if header.get("world")), ""),
        adapters=[
            one
            for folder, header in zip(folders, headers, strict=True)
            for one in read_adapters(locate(folder), header)
        ],
    )


def first_size(size: tuple[int, int], chosen: Sequence[Stage]) -> tuple[int, int]:
    """Width and height of the first stage's pictures for finished ones of this size.

    Raises:
        ConfigError: no such size can be made; the message names the nearest that can.
    """
    unit = 64 if len(chosen) > 1 else 8
    smallest = unit if len(chosen) > 1 else 2 * unit
    if any(side % unit or side < smallest for side in size):
        near = "x".join(str(max(smallest, round(side / unit) * unit)) for side in size)
        raise ConfigError(
            f"size = {size[0]}x{size[1]}: both sides must be multiples of {unit}, at least "
            f"{smallest}.",
            f"The nearest is {near}.",
        )
    scale = chosen[-1].config.resolution // chosen[0].config.resolution
    return size[0] // scale, size[1] // scale


def check_seeds(seed: int | Sequence[int], number: int) -> list[int]:
    """A seed for each picture: the given ones, or ``seed`` and those that follow it.

    Raises:
        ConfigError: there are not as many as pictures, or one is out of range.
    """
    seeds = list(range(seed, seed + number)) if isinstance(seed, int) else list(seed)
    if len(seeds) != number:
        raise ConfigError(f"There are {len(seeds)} seeds for {number} pictures.")
    if not all(0 <= one < SEED_LIMIT for one in seeds):
        raise ConfigError(f"seed = {seed} must be between 0 and 2^63 less the pictures.")
    return seeds


def check_prompts(prompts: Sequence[str]) -> list[str]:
    """The prompts, if there are any and none is empty.

    Raises:
        ConfigError: otherwise.
    """
    if not prompts:
        raise ConfigError("There is no prompt.", 'Try: imagen generate "a red circle"')
    for prompt in prompts:
        if not prompt.strip():
            raise ConfigError("The prompt is empty.", 'Try: imagen generate "a red circle"')
    return list(prompts)


def plain_sampling(settings: Sampling) -> dict[str, Any]:
    """Settings for a record; infinities, which JSON lacks, are left to the defaults, and so is the
    adapter of a stage that has none."""
    values: dict[str, Any] = plain(settings)
    return {
        key: value
        for key, value in values.items()
        if not (isinstance(value, float) and abs(value) == float("inf"))
        and not (key == "adapter" and not value)
    }


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] -> 0..255, rounded."""
    return x.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def _chunks(number: int, size: int) -> Iterator[slice]:
    for start in range(0, number, size):
        yield slice(start, min(start + size, number))


def _watch(
    progress: Progress | None, stage: Stage, rows: slice, number: int
) -> Callable[[int, int, Tensor], None] | None:
    """Progress of one batch as a part of the whole stage."""
    if progress is None:
        return None
    size = rows.stop - rows.start

    def watch(step: int, steps: int, x: Tensor) -> None:
        progress(stage.config.name, rows.start * steps + step * size, number * steps, x)

    return watch
