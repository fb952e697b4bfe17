"""A cascade: text -> 64 -> 256 -> 1024. generate(), upscale(), save()."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_imagen.cascade import checks, sizes
from open_imagen.cascade.alpha import parse_background, to_image
from open_imagen.cascade.denoiser import Watch
from open_imagen.cascade.edit import EditOptions, Strength, check_inputs, plan_edit
from open_imagen.cascade.folder import CascadeConfig, write_folder
from open_imagen.cascade.generate import ImageGenerator
from open_imagen.cascade.metadata import make_record
from open_imagen.cascade.prompts import PromptEncoder, load_on_demand, plain_prompt
from open_imagen.cascade.requests import GenerationOutput, ImageRequest, Progress, StageRequest
from open_imagen.cascade.runtime import RuntimeConfig
from open_imagen.cascade.sampling import ResolvedSampling, Sampling
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.variations import Variation
from open_imagen.cascade.vary import record_size, recorded_request, variation_settings
from open_imagen.data.images import MAX_PIXELS
from open_imagen.data.original import ImageSource, read_original
from open_imagen.text.cache import Remembered
from open_imagen.types import TextEncoder
from open_imagen.world import Reading


class Cascade:
    """A frozen text encoder and its stages, lowest resolution first."""

    def __init__(
        self,
        config: CascadeConfig,
        stages: Sequence[Stage],
        runtime: RuntimeConfig | None = None,
        text: TextEncoder | None = None,
        encoder_folder: Path | None = None,
        model_hash: str = "unsaved",
    ) -> None:
        """
        Args:
            stages: copied, so that other cascades and training may go on with them.
            text: a text encoder to use instead of the one that ``config`` names, which is loaded
                when it is first needed.
            encoder_folder: where that one's files are, if that is known.

        Raises:
            CheckpointError: the stages do not follow each other, or are fewer than the default.
            MissingDependency: ``runtime.fast`` on a CPU, without a C++ compiler.
        """
        checks.check_stages(stages, config.default_stages, config.name)
        self.config, self.runtime = config, runtime or RuntimeConfig()
        self.model_hash, self.encoder_folder = model_hash, encoder_folder
        if text is None:
            device = self.runtime.torch_device()
            text = load_on_demand(config.encoder, device, encoder_folder)
        own = [stage.replica() for stage in stages]
        self.stages = {stage.config.name: stage for stage in own}
        self.prompts = PromptEncoder(text, config.world)
        self.generator = ImageGenerator(own, self.prompts, self.runtime)

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
        return {
            "model": self.name,
            "model_hash": self.model_hash,
            "precision": self.runtime.dtype,
        }

    def read(self, prompt: str) -> Reading:
        """A prompt in the English that the model has learned; the prompt itself without a world."""
        return self.prompts.read(prompt)

    def hint(self, prompt: str) -> str | None:
        """What the model does not know of a prompt, with the nearest words that it knows."""
        return self.prompts.hint(prompt)

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
        prompt_weights: bool = False,
        variations: Sequence[tuple[int, float]] = (),
    ) -> GenerationOutput:
        """Make images of prompts.

        Image k of the call has seed ``seed + k``. It depends on the model, its prompt and
        negative prompt, its seed and the settings, and on nothing else.

        Args:
            seed: of the first image, or one for each.
            negative: what guidance leads away from; without it, zeroed text.
            stages: how many stages to run; the model's default if None, which is mostly all.
            settings: per stage name, over the model's defaults.
            progress: called with (stage, step, steps, estimate [B, C, H, W]) while sampling.
            batch_size: images made together; no image depends on it.
            size: width and height of the finished images: multiples of 8 for a base alone, of 64
                with super-resolution. What the stages were trained for if None. The resolution of
                a stage, without ``stages``, means: up to that stage.
            background: of a model with alpha, what is behind what it leaves transparent: white if
                None, "transparent", or "#rrggbb".
            prompt_weights: whether "(word:1.3)" weighs words (docs/editing.md).
            variations: seeds whose noise is mixed in, each with its amount; see vary.

        Raises:
            ConfigError: an empty prompt, or a setting that is unknown or out of range.
        """
        self.check_background(background)
        chosen, first = self.plan(stages, size)
        checks.check_base(chosen, self.name)
        mixed = [Variation(*one) for one in variations]
        requests = checks.make_requests(
            prompts, seed, images_per_prompt, negative, prompt_weights, mixed
        )
        checks.check_batch_size(batch_size)
        resolved = self.complete_settings(chosen, settings, negative)
        self.prompts.warn(plain_prompt(one.prompt, prompt_weights) for one in requests)
        images = self.generator.run(chosen, requests, resolved, None, first, batch_size, progress)
        return self._output(requests, images, resolved, "generate", background)

    def edit(
        self,
        image: ImageSource,
        prompt: str,
        mask: ImageSource | None = None,
        strength: Strength = None,
        seed: int | Sequence[int] = 0,
        images: int = 1,
        negative: str | None = None,
        extend: Sequence[int] | None = None,
        stages: int | None = None,
        settings: Mapping[str, Sampling] | None = None,
        progress: Progress | None = None,
        batch_size: int = 16,
        background: str | None = None,
        prompt_weights: bool = False,
        resample: int = 1,
        known: str = "renoised",
        feather: int | None = None,
        max_pixels: int = MAX_PIXELS,
        repeat: Mapping[str, Any] | None = None,
    ) -> GenerationOutput:
        """Change an image: all of it, what a mask marks, or what extends it (docs/editing.md).

        The results are as large as the image and its extension. Outside the mask they have its
        own values.

        Args:
            image: a path, a file's bytes, a Pillow image, an array or a tensor of uint8.
            prompt: what the whole result shows.
            mask: an image of the same size: transparent, or else white, where it is made anew;
                "alpha": where the image itself is transparent.
            strength: 0 to 1, how much is made anew; one for all stages or a dict by stage. None:
                0.6, and 1 with a mask or an extension.
            extend: pixels to add left, above, right and below.
            stages: how many stages to run; the model's default if None.
            background: of a model with alpha: None keeps the image's own transparency.
            resample, known, feather: of a mask; see EditOptions.
            max_pixels: larger images are refused.
            repeat: a record; the image and mask must be those that it was made of.

        Raises:
            DataError: an image cannot be read, or is too large.
            ConfigError: a mask of another size, or a setting that is unknown or out of range.
        """
        self.check_background(background)
        chosen = self.chosen(stages)
        checks.check_base(chosen, self.name)
        options = EditOptions(
            strength=strength, extend=extend, resample=resample, known=known, feather=feather
        )
        plan = plan_edit(image, mask, chosen, options, max_pixels)
        if repeat is not None:
            check_inputs(repeat, plan)
        requests = checks.make_requests(prompt, seed, images, negative, prompt_weights)
        checks.check_batch_size(batch_size)
        resolved = self.complete_settings(chosen, settings, negative)
        self.prompts.warn([plain_prompt(prompt, prompt_weights)])
        made = self.generator.run(
            chosen, requests, resolved, None, plan.size, batch_size, progress, plan.starts
        )
        *_, last = made.values()
        shown = [plan.result(pixels, background) for pixels in last]
        records = [
            self.record(one, resolved, picture.size, "edit", background, plan.record)
            for one, picture in zip(requests, shown, strict=True)
        ]
        return GenerationOutput(shown, made, records)

    def vary(
        self,
        record: Mapping[str, Any],
        amount: float = 0.3,
        seed: int = 1,
        images: int = 1,
        progress: Progress | None = None,
        batch_size: int = 16,
    ) -> GenerationOutput:
        """Near relatives of an image that this model made, by its record.

        Its noise is mixed with that of another seed in every stage; image k has that of
        ``seed + k``.

        Args:
            amount: 0 is the image itself, 1 the image of the other seed.

        Raises:
            ConfigError: the record is not of a generated image, or a number is out of range.
        """
        settings = variation_settings(record, self.identity)
        chosen, first = self.plan(len(settings), record_size(record))
        others = checks.check_seeds(seed, images)
        requests = [recorded_request(record, Variation(other, amount)) for other in others]
        checks.check_batch_size(batch_size)
        resolved = self.complete_settings(chosen, settings, requests[0].negative)
        made = self.generator.run(chosen, requests, resolved, None, first, batch_size, progress)
        return self._output(requests, made, resolved, "generate", record.get("background"))

    def upscale(
        self,
        image: ImageSource,
        prompt: str,
        seed: int = 0,
        negative: str | None = None,
        settings: Mapping[str, Sampling] | None = None,
        progress: Progress | None = None,
        background: str | None = None,
    ) -> GenerationOutput:
        """Upscale an image of any size and shape with the super-resolution stages alone.

        They begin with the stage whose input is nearest in size, and end where the model's images
        end by default, but with one stage at least. Nothing is cut off.

        Raises:
            DataError: the image cannot be read.
            ConfigError: the model has no such stage, or the image is too small or too large.
        """
        self.check_background(background)
        chosen, start = self.start_of(image)
        requests = checks.make_requests(prompt, seed, 1, negative)
        resolved = self.complete_settings(chosen, settings, negative)
        self.prompts.warn([prompt])
        images = self.generator.run(chosen, requests, resolved, start, progress=progress)
        return self._output(requests, images, resolved, "upscale", background)

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

    def record(
        self,
        request: ImageRequest,
        settings: Mapping[str, ResolvedSampling],
        size: tuple[int, int],
        made_by: str = "generate",
        background: str | None = None,
        edit: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What an image says of itself: all it takes to repeat it."""
        plain = plain_prompt(request.prompt, request.prompt_weights)
        read = self.read(plain).prompt
        read_as = request.prompt if read == plain else read
        return make_record(
            request, settings, size, self.identity, read_as, made_by, background, edit
        )

    def check_background(self, background: str | None) -> None:
        """Raises ConfigError unless this model's images can have such a background."""
        checks.check_background(background, self.has_alpha, self.name)

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

    def chosen(self, number: int | None) -> list[Stage]:
        """The first stages; as many as the model has by default if None.

        Raises:
            ConfigError: there are not as many.
        """
        stages = list(self.stages.values())
        return sizes.choose_stages(stages, number, self.config.default_stages, self.name)

    def plan(
        self, number: int | None, size: tuple[int, int] | None
    ) -> tuple[list[Stage], tuple[int, int] | None]:
        """The stages to run for a number and a size, and the size of the first one's images,
        None where it is what that stage was made for. See generate.

        Raises:
            ConfigError: there are not as many stages, or no such size can be made.
        """
        default = self.config.default_stages
        return sizes.plan_stages(list(self.stages.values()), number, size, default, self.name)

    def complete_settings(
        self,
        chosen: Sequence[Stage],
        settings: Mapping[str, Sampling] | None,
        negative: str | None = None,
    ) -> dict[str, ResolvedSampling]:
        """The settings of these stages over the model's defaults, none open.

        Raises:
            UnknownName: settings for a stage that the model does not have.
            ConfigError: a negative prompt, and no guidance that could lead away from it.
        """
        return checks.resolve_settings(chosen, list(self.stages), settings, negative, self.name)

    def draw(
        self, stage: Stage, requests: Sequence[StageRequest], watch: Watch | None = None
    ) -> Tensor:
        """One batch of one stage: uint8 [B, C, H, W] on the CPU.

        Images may differ in whatever `ResolvedSampling.together` leaves out; all have one size.
        """
        return self.generator.draw(stage, requests, watch)

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write a model folder (see docs/formats.md).

        Args:
            dtype: of the stored weights; float16 halves them.
        """
        write_folder(Path(folder), self.config, list(self.stages.values()), dtype)
