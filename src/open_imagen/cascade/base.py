"""The parts of a cascade, and queries that need no sampling."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_imagen.cascade import checks, sizes
from open_imagen.cascade.adapters import (
    Adapters,
    WeightedAdapter,
    adapted_hash,
    apply_adapters,
    read_weighted,
)
from open_imagen.cascade.alpha import parse_background, to_image
from open_imagen.cascade.denoiser import Watch
from open_imagen.cascade.folder import Adapter, CascadeConfig
from open_imagen.cascade.generate import ImageGenerator
from open_imagen.cascade.metadata import make_record
from open_imagen.cascade.output import GenerationOutput
from open_imagen.cascade.prompts import PromptEncoder, load_on_demand, plain_prompt
from open_imagen.cascade.requests import ImageRequest, StageRequest
from open_imagen.cascade.runtime import RuntimeConfig
from open_imagen.cascade.sampling import ResolvedSampling, Sampling
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.values import whole_number
from open_imagen.cascade.variants import variants_of
from open_imagen.data.original import ImageSource, read_original
from open_imagen.errors import UnknownName
from open_imagen.text.cache import OnDemand, Remembered
from open_imagen.types import TextEncoder
from open_imagen.world import Reading

Settings = Mapping[str, Sampling | Mapping[str, Any]]
"""Per stage name, settings over the model's defaults."""


class CascadeBase:
    """A frozen text encoder and its stages, lowest resolution first."""

    def __init__(
        self,
        config: CascadeConfig,
        stages: Sequence[Stage],
        runtime: RuntimeConfig | None = None,
        text: TextEncoder | None = None,
        encoder_folder: Path | None = None,
        model_hash: str = "unsaved",
        adapters: Sequence[Adapter] = (),
    ) -> None:
        """Copy the stages and set up the runtime.

        Args:
            stages: copied, so that other cascades and training may go on with them.
            text: replaces the encoder of ``config``, which is loaded when first needed.
            encoder_folder: holds the files of that encoder.
            adapters: named ones; the first of a stage is its default.

        Raises:
            CheckpointError: the stages do not follow each other, or are fewer than the default; or
                an adapter does not fit.
            MissingDependency: ``runtime.fast`` on a CPU, without a C++ compiler.
        """
        checks.check_stages(stages, config.default_stages, config.name)
        self.config, self.runtime = config, runtime or RuntimeConfig()
        self.model_hash, self.encoder_folder = model_hash, encoder_folder
        self._base_hash = model_hash
        self.added_adapters: list[WeightedAdapter] = []
        """The adapters that `set_adapters` has added to the weights."""
        if text is None:
            device = self.runtime.torch_device()
            text = load_on_demand(config.encoder, device, encoder_folder)
        self.variants = variants_of([stage.replica() for stage in stages], adapters)
        """Each stage with and without its named adapters: ``variants["base"].own`` is the stage
        without any."""
        self.stages = {name: one.default for name, one in self.variants.items()}
        self.prompts = PromptEncoder(text, config.world)
        self.generator = ImageGenerator(self.variants, self.prompts, self.runtime)

    def __repr__(self) -> str:
        stages = ", ".join(f"{name} {one.config.resolution}" for name, one in self.stages.items())
        return f"<{type(self).__name__} {self.name} ({self.model_hash}): {stages}; {self.device}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy: stages whose weights are in a file are opened again there."""
        text = self.text.encoder
        arguments = (
            self.config,
            [variants.own for variants in self.variants.values()],
            self.runtime,
            None if isinstance(text, OnDemand) else text,
            self.encoder_folder,
            self._base_hash,
            self._adapters(),
        )
        return type(self), arguments, self.added_adapters or None

    def __setstate__(self, added: list[WeightedAdapter]) -> None:
        self.set_adapters(added)

    def _adapters(self) -> list[Adapter]:
        return [one for variants in self.variants.values() for one in variants.adapters.values()]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config.name

    @property
    def device(self) -> torch.device:
        """Where its networks run."""
        return self.generator.device

    @property
    def has_alpha(self) -> bool:
        """Whether its images have an alpha channel."""
        return any(stage.channels == 4 for stage in self.stages.values())

    @property
    def text(self) -> Remembered:
        """The text encoder; it remembers what it has encoded."""
        return self.prompts.text

    @text.setter
    def text(self, encoder: Remembered) -> None:
        self.prompts.text = encoder

    @property
    def identity(self) -> dict[str, Any]:
        """What its images depend on besides prompts, seeds and settings."""
        identity: dict[str, Any] = {
            "model": self.name,
            "model_hash": self.model_hash,
            "precision": self.runtime.dtype,
        }
        if self.added_adapters:
            identity["adapters"] = [adapter.facts for adapter in self.added_adapters]
        return identity

    def set_adapters(self, adapters: Adapters = ()) -> None:
        """Add these low-rank adapters, and no others, to the weights; none by default.

        Weights that no adapter changes stay as they are, and nothing is loaded again.

        Examples:
            >>> cascade.set_adapters({"runs/ink/adapter": 0.7, "runs/cats": 0.5})  # doctest: +SKIP

        Args:
            adapters: folders, "DIR:WEIGHT", or a mapping of folders to weights. The change of each
                is multiplied by its weight, 1 if there is none.

        Raises:
            ConfigError: a weight that is not a number, or an adapter with a name.
            CheckpointError: an adapter is damaged or of another network; nothing is changed.
        """
        added = read_weighted(adapters)
        every = [stage for one in self.variants.values() for stage in one.stages.values()]
        apply_adapters(every, added)
        self.added_adapters = added
        digests, weights = ([one.adapter.digest for one in added], [one.weight for one in added])
        self.model_hash = adapted_hash(self._base_hash, digests, weights)

    def stage(self, name: str, adapter: str | None = None) -> Stage:
        """A stage with one of its named adapters; "none": without; None: the model's default.

        Raises:
            UnknownName: there is no such stage or adapter.
        """
        if name not in self.variants:
            raise UnknownName("stage", name, self.variants)
        return self.variants[name].get(adapter)

    def read(self, prompt: str) -> Reading:
        """A prompt in the words that the model was trained on; itself without a world."""
        return self.prompts.read(prompt)

    def hint(self, prompt: str) -> str | None:
        """The words of a prompt that the model does not know, and the nearest that it knows."""
        return self.prompts.hint(prompt)

    def check_background(self, background: str | None) -> None:
        """Raises ConfigError unless this model's images can have such a background."""
        checks.check_background(background, self.has_alpha, self.name)

    def chosen(self, number: int | None) -> list[Stage]:
        """The first stages; as many as the model has by default if None.

        Raises:
            ConfigError: there are not as many.
        """
        number = None if number is None else whole_number(number, "stages")
        stages = list(self.stages.values())
        return sizes.choose_stages(stages, number, self.config.default_stages, self.name)

    def plan(
        self, number: int | None, size: int | tuple[int, int] | str | None
    ) -> tuple[list[Stage], tuple[int, int] | None]:
        """The stages to run for a number and a size, and the size of the first one's images.

        The size is None where it is the stage's own resolution. See generate.

        Raises:
            ConfigError: there are not as many stages, or no such size can be made.
        """
        chosen, size = self.chosen(number), checks.check_size(size)
        if size is not None and number is None:
            number = sizes.stages_up_to(size, list(self.stages.values()))
            if number is not None:
                return self.chosen(number), None
        return chosen, None if size is None else sizes.first_size(size, chosen)

    def start_of(self, image: ImageSource) -> tuple[list[Stage], Tensor]:
        """The stages that upscale an image, and the first one's input, uint8 [1, C, h, w].

        Raises:
            DataError: the image cannot be read.
            ConfigError: there is no such stage, or the image is too small or too large.
        """
        original = read_original(image).srgb
        usual = sum(bool(stage.config.lowres) for stage in self.chosen(None))
        stages = list(self.stages.values())
        chosen = sizes.upscaling_stages(stages, original.size, usual, self.name)
        return chosen, sizes.lowres_input(original, chosen[0])

    def complete_settings(
        self,
        chosen: Sequence[Stage],
        settings: Settings | None,
        negative: str | None = None,
    ) -> dict[str, ResolvedSampling]:
        """The settings of these stages over the model's defaults, none open.

        Raises:
            UnknownName: settings for a stage that the model does not have.
            ConfigError: a negative prompt, and no guidance that could lead away from it.
        """
        return checks.resolve_settings(chosen, self.variants, settings, negative, self.name)

    def draw(
        self, stage: Stage, requests: Sequence[StageRequest], watch: Watch | None = None
    ) -> Tensor:
        """One batch of one stage: uint8 [B, C, H, W] on the CPU.

        Images may differ in whatever `ResolvedSampling.together` leaves out; all have one size.
        """
        return self.generator.draw(stage, requests, watch)

    def record(
        self,
        request: ImageRequest,
        settings: Mapping[str, ResolvedSampling],
        size: tuple[int, int],
        made_by: str = "generate",
        background: str | None = None,
        edit: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The record of an image: everything that is needed to repeat it."""
        plain = plain_prompt(request.prompt, request.prompt_weights)
        read = self.read(plain).prompt
        read_as = request.prompt if read == plain else read
        return make_record(
            request, settings, size, self.identity, read_as, made_by, background, edit
        )

    def _output(
        self,
        requests: Sequence[ImageRequest],
        images: dict[str, Tensor],
        settings: Mapping[str, ResolvedSampling],
        made_by: str,
        background: str | None,
    ) -> GenerationOutput:
        """The last stage's images with their records."""
        *_, last = images.values()
        shown = [to_image(pixels, parse_background(background)) for pixels in last]
        records = [
            self.record(request, settings, image.size, made_by, background)
            for request, image in zip(requests, shown, strict=True)
        ]
        return GenerationOutput(shown, images, records)
