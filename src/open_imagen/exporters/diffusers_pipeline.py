"""A cascade as a pipeline of diffusers. Written into exported folders, with what it uses."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from torch import Tensor

from open_imagen.cascade.alpha import over, parse_background, to_image
from open_imagen.cascade.augmentation import Augmentation
from open_imagen.cascade.sampling import Sampling
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.stage_config import StageConfig
from open_imagen.diffusion.losses import Objective
from open_imagen.diffusion.schedules import Schedule
from open_imagen.errors import ConfigError
from open_imagen.text.cleaning import CLEANERS
from open_imagen.text.letters import with_letters
from open_imagen.types import TextEmbedding, stack_texts

SEED_STEP, SEED_LIMIT = 0x9E3779B97F4A7C15, 2**63
"""What is added to a seed from stage to stage, and the number of seeds."""


class Calls(torch.nn.Module):
    """A network of a pipeline, always called through its forward, where offloading has its hook."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.__dict__["model"] = model

    def encode_text(self, text: TextEmbedding) -> Any:
        """The cached text of the wrapped network."""
        model: Any = self.model
        return model(text, encode=True)

    def forward(self, *inputs: Any) -> Any:
        """Call the wrapped network."""
        model: Any = self.model
        return model(*inputs)


class PipelineStage(Stage):
    """A stage around a network that the pipeline holds."""

    def __init__(self, name: str, facts: Any, model: Any, device: torch.device) -> None:
        torch.nn.Module.__init__(self)
        augmentation = dict(facts["augmentation"])
        augmentation["schedule"] = Schedule(**augmentation["schedule"])
        self.config = StageConfig(
            name=name,
            resolution=facts["resolution"],
            lowres=facts["lowres"],
            schedule=Schedule(**facts["schedule"]),
            objective=Objective(prediction=facts["prediction"]),
            augmentation=Augmentation(**augmentation),
            unconditional=facts["unconditional"],
            distilled_guidance=facts["distilled_guidance"],
            sampling=Sampling(**facts["sampling"]),
        )
        self.network = Calls(model)
        network = self.network_config = model.net.config
        self.uses_timesteps = getattr(network, "level", "logsnr") == "step"
        self.learned_range = getattr(network, "learned_variance", False)
        self.channels: int = network.image_channels
        self.letters: int = network.letters
        self.divisor: int = network.divisor
        self.dtype = model.dtype
        self.device = device

    def parameters(self, recurse: bool = True) -> Iterator[torch.nn.Parameter]:
        """Something on the device to compute on; the weights may be elsewhere until then."""
        yield torch.nn.Parameter(torch.empty(0, device=self.device))


class OpenImagenPipeline(DiffusionPipeline):
    """Text -> image, by a cascade of pixel-space diffusion models."""

    model_cpu_offload_seq = "text_encoder->unet->unet_2->unet_3->unet_4"
    _optional_components: ClassVar[list[str]] = [
        "tokenizer",
        "text_encoder",
        "unet_2",
        "unet_3",
        "unet_4",
    ]

    def __init__(
        self,
        unet: Any,
        tokenizer: Any = None,
        text_encoder: Any = None,
        unet_2: Any = None,
        unet_3: Any = None,
        unet_4: Any = None,
        stages: dict[str, dict[str, Any]] | None = None,
        encoder: dict[str, Any] | None = None,
        default_stages: int | None = None,
    ) -> None:
        """Register the components.

        Args:
            unet, unet_2 ...: the networks of the stages, lowest resolution first.
            stages: what else is known of each stage, by its name.
            encoder: how captions become tokens.
            default_stages: how many stages run where nobody says; all if None.
        """
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            unet=unet,
            unet_2=unet_2,
            unet_3=unet_3,
            unet_4=unet_4,
        )
        self.register_to_config(stages=stages, encoder=encoder, default_stages=default_stages)

    def encode_prompt(self, prompts: Sequence[str]) -> TextEmbedding:
        """Tokens of captions [B, L, C], zero where padded, and their mask [B, L]."""
        facts = self.config.encoder
        if self.tokenizer is None or self.text_encoder is None:
            raise ConfigError(
                f"This pipeline has no text encoder; it was trained with {facts['name']}.",
                "Give prompt_embeds and prompt_mask, or load it with text_encoder and tokenizer.",
            )
        rows = [self._token_ids(CLEANERS[facts["cleaning"]](prompt)) for prompt in prompts]
        length = facts["max_length"] if facts["padded"] else max(map(len, rows))
        device = self._execution_device
        ids = torch.tensor([row + [0] * (length - len(row)) for row in rows], device=device)
        mask = torch.arange(length, device=device) < torch.tensor(
            [[len(row)] for row in rows], device=device
        )
        hidden = facts["output"] == "penultimate"
        found = self.text_encoder(
            input_ids=ids, attention_mask=mask.long(), output_hidden_states=hidden
        )
        tokens = (found.hidden_states[-2] if hidden else found.last_hidden_state).float()
        if facts["padded"]:
            return TextEmbedding(tokens, torch.ones_like(mask))
        return TextEmbedding(tokens * mask[..., None], mask)

    def _token_ids(self, caption: str) -> list[int]:
        most = self.config.encoder["max_length"]
        ids: list[int] = self.tokenizer(caption, truncation=False)["input_ids"]
        return ids if len(ids) <= most else ids[: most - 1] + ids[-1:]  # the closing token stays

    def cascade_stages(self) -> list[PipelineStage]:
        """The stages, lowest resolution first."""
        networks = [self.unet, self.unet_2, self.unet_3, self.unet_4]
        return [
            PipelineStage(name, facts, network, self._execution_device)
            for (name, facts), network in zip(self.config.stages.items(), networks, strict=False)
        ]

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | None = None,
        num_images_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_stages: int | None = None,
        num_inference_steps: int | Sequence[int] | None = None,
        guidance_scale: float | Sequence[float] | None = None,
        settings: dict[str, dict[str, Any]] | None = None,
        image: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        prompt_mask: Tensor | None = None,
        background: str | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., Any] | None = None,
    ) -> Any:
        """Make images of captions.

        Args:
            negative_prompt: guidance leads away from it; from the unconditional text if None.
            seed: of the first image, image k has seed + k; or a list, one for each. 0 if neither a
                seed nor a generator is given.
            generator: in place of a seed; its own seed is taken while it is new.
            num_stages: how many stages run; the model's default if None.
            num_inference_steps, guidance_scale: for all stages, or a list with one for each; the
                model's own if None.
            settings: any of the model's sampling settings by stage name, as in model_index.json.
            image: uint8 [B, C, h, w], upscaled by the super-resolution stages alone.
            prompt_embeds, prompt_mask: tokens [B, L, C] and mask [B, L] of the prompts, in place of
                the text encoder's.
            background: of a model with alpha: white if None, "transparent", or "#rrggbb".
            output_type: "pil", "np" (float, [B, H, W, C] in [0, 1]) or "pt" (uint8, [B, C, H, W]).
            callback_on_step_end: called with (pipeline, step, steps left, {"latents": estimate}).
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        prompts = [one for one in prompts for _ in range(num_images_per_prompt)]
        behind = parse_background(background)
        stages = self._stages_for(image, num_stages)
        seeds = seeds_of(seed, generator, len(prompts))
        if prompt_embeds is None:
            text = self.encode_prompt(prompts)
        else:
            text = given_text(prompt_embeds, prompt_mask, num_images_per_prompt)
        chosen = [
            sampling_of(stage, k, num_inference_steps, guidance_scale, settings)
            for k, stage in enumerate(stages)
        ]
        check_negative(negative_prompt, stages, chosen)
        made = image
        for stage, how in zip(stages, chosen, strict=True):
            made = self._draw(
                stage, how, prompts, text, negative_prompt, seeds, made, callback_on_step_end
            )
        self.maybe_free_model_hooks()
        assert made is not None
        images = made if output_type == "pt" else as_output(made, behind, output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _stages_for(self, image: Tensor | None, number: int | None) -> list[PipelineStage]:
        """The stages that run: the first ones, or those that upscale an image.

        Raises:
            ConfigError: an image is missing, or no stage upscales one of its size.
        """
        stages = self.cascade_stages()
        if image is None:
            if stages[0].config.lowres:
                raise ConfigError("This pipeline upscales images: give it one, uint8 [B, C, h, w].")
            return stages[: number or self.config.default_stages or len(stages)]
        side = image.shape[-1]
        stages = [stage for stage in stages if stage.config.lowres >= side]
        if not stages or stages[0].config.lowres != side:
            raise ConfigError(f"No stage upscales images of {side} pixels.")
        return stages

    def _draw(
        self,
        stage: PipelineStage,
        settings: Sampling,
        prompts: Sequence[str],
        text: TextEmbedding,
        negative: str | None,
        seeds: Sequence[int],
        below: Tensor | None,
        callback: Callable[..., Any] | None,
    ) -> Tensor:
        """The images of one stage, uint8 [B, C, H, W] on the CPU."""
        device = stage.device
        number = list(self.config.stages).index(stage.config.name)
        own = with_letters(text, prompts, stage.letters).to(device)
        against = None
        if negative or stage.config.unconditional == "empty":
            against = self.encode_prompt([negative or ""])
            against = with_letters(against, [negative or ""], stage.letters)
            against = stack_texts([against] * len(prompts)).to(device)
        lowres = None
        if stage.config.lowres:
            assert below is not None
            lowres = below.to(device).float() / 127.5 - 1
        generators = [
            torch.Generator().manual_seed((seed + number * SEED_STEP) % SEED_LIMIT)
            for seed in seeds
        ]
        resolved = settings.over(stage.config.sampling).resolve()
        steps = len(resolved.levels(stage.config.schedule)) - 1
        with self.progress_bar(total=steps) as bar:

            def watch(step: int, of: int, estimate: Tensor) -> None:
                bar.update(step - bar.n)
                if callback is not None:
                    callback(self, step - 1, of - step, {"latents": estimate})

            made = stage.sample(own, generators, settings, lowres, against, watch)
        return made.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def given_text(tokens: Tensor, mask: Tensor | None, repeats: int) -> TextEmbedding:
    """Embeddings of prompts [B, L, C] and their mask [B, L], each repeated for its images."""
    if mask is None:
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    rows = [k for k in range(len(tokens)) for _ in range(repeats)]
    return TextEmbedding(tokens, mask.bool()).select(rows)


def check_negative(
    negative: str | None, stages: Sequence[PipelineStage], chosen: Sequence[Sampling]
) -> None:
    """Check that a negative prompt has an effect.

    Raises:
        ConfigError: no stage uses guidance.
    """
    if negative and all(
        settings.over(stage.config.sampling).resolve().guidance == 1
        for stage, settings in zip(stages, chosen, strict=True)
    ):
        raise ConfigError(
            f"negative_prompt = {negative!r} would change nothing: guidance is off.",
            "Leave it out, or set a guidance_scale above 1.",
        )


def sampling_of(
    stage: PipelineStage,
    place: int,
    steps: int | Sequence[int] | None,
    guidance: float | Sequence[float] | None,
    settings: dict[str, dict[str, Any]] | None,
) -> Sampling:
    """The settings that a call gives to one stage."""
    values = dict((settings or {}).get(stage.config.name, {}))
    for name, value in (("steps", steps), ("guidance", guidance)):
        if value is not None:
            values[name] = value[place] if isinstance(value, list | tuple) else value
    return Sampling(**values)


def seeds_of(
    seed: int | Sequence[int] | None,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    number: int,
) -> list[int]:
    """A seed for each image."""
    if isinstance(generator, list | tuple):
        seed = [one.initial_seed() % SEED_LIMIT for one in generator]
    elif isinstance(generator, torch.Generator) and seed is None:
        new = torch.Generator(generator.device).manual_seed(generator.initial_seed())
        is_new = torch.equal(new.get_state(), generator.get_state())
        later = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        seed = generator.initial_seed() % SEED_LIMIT if is_new else later
    if seed is None or isinstance(seed, int):
        return [(seed or 0) + k for k in range(number)]
    if len(seed) != number:
        raise ConfigError(f"There are {len(seed)} seeds for {number} images.")
    return list(seed)


def as_output(pixels: Tensor, behind: tuple[int, int, int] | None, kind: str) -> Any:
    """uint8 [B, C, H, W] as PIL images, or as an array in [0, 1]."""
    if kind == "pil":
        return [to_image(one, behind) for one in pixels]
    if pixels.shape[1] == 4 and behind is not None:
        pixels = over(pixels, behind)
    return pixels.permute(0, 2, 3, 1).float().div(255).numpy()
