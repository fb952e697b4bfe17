"""Load a model, put adapters on it, generate, edit and enlarge images, as nodes of ComfyUI.

Images between nodes are [B, H, W, 3] float in [0, 1]; masks [B, H, W], 1 where an image is
transparent, as ComfyUI's LoadImage gives them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
import torch
from PIL import Image

import open_imagen
from open_imagen.cascade.folder import shipped

CATEGORY = "open_imagen"
LARGEST_SEED = 2**53 - 1
"""The largest whole number that ComfyUI's pages hold exactly."""
PREVIEW_SIDE = 512


class Model(NamedTuple):
    """What goes from node to node: a loaded model, and the adapters that it shall have."""

    cascade: Any
    adapters: tuple[tuple[str, float], ...] = ()


def models_folder() -> Path:
    """ComfyUI/models/open_imagen."""
    return Path(folder_paths.models_dir) / "open_imagen"


def model_names() -> list[str]:
    """Shipped models, and the model folders in ComfyUI/models/open_imagen."""
    own = sorted(path.parent.name for path in models_folder().glob("*/cascade.json"))
    return [*shipped(), *own]


def adapter_names() -> list[str]:
    """The adapter folders in ComfyUI/models/open_imagen."""
    folder = models_folder()
    return sorted(str(path.parent.relative_to(folder)) for path in folder.rglob("adapter.json"))


def start(model: Model) -> Any:
    """The cascade with the adapters of this model: several models of a graph may share one."""
    model.cascade.set_adapters([f"{path}:{weight}" for path, weight in model.adapters])
    return model.cascade


def watch(cascade: Any) -> Callable[[str, int, int, torch.Tensor], None]:
    """A progress bar with previews; ends the work when the user cancels."""
    bars: dict[str, Any] = {}

    def told(stage: str, step: int, steps: int, estimate: torch.Tensor) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if stage not in bars:
            bars[stage] = comfy.utils.ProgressBar(steps)
        preview = to_pil(estimate[0, :3].float().add(1).div(2).clamp(0, 1).movedim(0, -1))
        bars[stage].update_absolute(step, steps, ("JPEG", preview, PREVIEW_SIDE))

    return told


def to_pil(image: torch.Tensor) -> Image.Image:
    """[H, W, C] in [0, 1] -> a PIL image."""
    values = image.detach().cpu().mul(255).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(values.numpy()))


def to_tensors(images: list[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
    """PIL images -> IMAGE [B, H, W, 3] and MASK [B, H, W], 1 where they are transparent."""
    arrays = [np.asarray(one.convert("RGBA"), dtype=np.float32) / 255 for one in images]
    every = torch.from_numpy(np.stack(arrays))
    return every[..., :3].contiguous(), (1 - every[..., 3]).contiguous()


def sampling(cascade: Any, steps: int, guidance: float) -> dict[str, Any]:
    """Settings of the base; 0 steps and a guidance below 0 mean the model's own."""
    values: dict[str, Any] = {}
    if steps:
        values["steps"] = steps
    if guidance >= 0:
        values["guidance"] = guidance
    first = next(iter(cascade.stages))
    return {first: open_imagen.Sampling(**values)} if values else {}


SEED = ("INT", {"default": 0, "min": 0, "max": LARGEST_SEED, "control_after_generate": True})
PROMPT = ("STRING", {"multiline": True, "default": "", "tooltip": "What the image shows."})
NEGATIVE = ("STRING", {"multiline": True, "default": "", "tooltip": "What to lead away from."})
STEPS = ("INT", {"default": 0, "min": 0, "max": 1000, "tooltip": "0: the model's own."})
GUIDANCE = (
    "FLOAT",
    {
        "default": -1.0,
        "min": -1.0,
        "max": 30.0,
        "step": 0.1,
        "tooltip": "-1: the model's own; 1: off.",
    },
)
BACKGROUND = (
    ["white", "transparent"],
    {"tooltip": "Of models with transparency; others have none."},
)


def background_of(cascade: Any, choice: str) -> str | None:
    """None, which is white, where the model has no transparency."""
    return "transparent" if choice == "transparent" and cascade.has_alpha else None


class OpenImagenLoad:
    """Load a model once; later runs keep it."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("OPEN_IMAGEN_MODEL",)
    RETURN_NAMES = ("model",)
    FUNCTION = "load"
    DESCRIPTION = "A shipped model, a folder in ComfyUI/models/open_imagen, or any other folder."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": (model_names(),),
                "precision": (["fp32", "bf16"],),
            },
            "optional": {
                "folder": ("STRING", {"default": "", "tooltip": "In place of model, if given."}),
                "fast": ("BOOLEAN", {"default": False, "tooltip": "Compile, or use CPU kernels."}),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, folder: str = "") -> bool | str:
        if folder and not folder.startswith("hf:") and not Path(folder).is_dir():
            return f"There is no folder {folder}."
        return True

    def load(
        self, model: str, precision: str, folder: str = "", fast: bool = False
    ) -> tuple[Model]:
        own = models_folder() / model
        chosen = folder or (str(own) if (own / "cascade.json").is_file() else model)
        device = str(comfy.model_management.get_torch_device())
        return (Model(open_imagen.load(chosen, device=device, dtype=precision, fast=fast)),)


class OpenImagenAdapter:
    """One low-rank adapter more, with a weight; the model is not loaded again."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("OPEN_IMAGEN_MODEL",)
    RETURN_NAMES = ("model",)
    FUNCTION = "add"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        weight = {"default": 1.0, "min": -4.0, "max": 4.0, "step": 0.05}
        return {
            "required": {
                "model": ("OPEN_IMAGEN_MODEL",),
                "adapter": (["none", *adapter_names()],),
                "weight": ("FLOAT", weight),
            },
            "optional": {
                "folder": ("STRING", {"default": "", "tooltip": "In place of adapter, if given."})
            },
        }

    def add(self, model: Model, adapter: str, weight: float, folder: str = "") -> tuple[Model]:
        path = folder or (str(models_folder() / adapter) if adapter != "none" else "")
        if not path or weight == 0:
            return (model,)
        return (Model(model.cascade, (*model.adapters, (path, float(weight)))),)


class OpenImagenGenerate:
    """Images of a prompt."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "mask")
    FUNCTION = "generate"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("OPEN_IMAGEN_MODEL",),
                "prompt": PROMPT,
                "seed": SEED,
                "images": ("INT", {"default": 1, "min": 1, "max": 64}),
            },
            "optional": {
                "negative": NEGATIVE,
                "steps": STEPS,
                "guidance": GUIDANCE,
                "stages": ("INT", {"default": 0, "min": 0, "max": 4, "tooltip": "0: its own."}),
                "background": BACKGROUND,
            },
        }

    def generate(
        self,
        model: Model,
        prompt: str,
        seed: int,
        images: int,
        negative: str = "",
        steps: int = 0,
        guidance: float = -1.0,
        stages: int = 0,
        background: str = "white",
    ) -> tuple[torch.Tensor, torch.Tensor]:
        cascade = start(model)
        made = cascade.generate(
            [prompt],
            seed=seed,
            images_per_prompt=images,
            negative=negative.strip() or None,
            stages=stages or None,
            settings=sampling(cascade, steps, guidance),
            progress=watch(cascade),
            background=background_of(cascade, background),
        )
        return to_tensors(made.images)


class OpenImagenUpscale:
    """Images enlarged by the super-resolution stages of a model."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "mask")
    FUNCTION = "upscale"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("OPEN_IMAGEN_MODEL",),
                "image": ("IMAGE",),
                "prompt": PROMPT,
                "seed": SEED,
            },
            "optional": {"negative": NEGATIVE, "background": BACKGROUND},
        }

    def upscale(
        self,
        model: Model,
        image: torch.Tensor,
        prompt: str,
        seed: int,
        negative: str = "",
        background: str = "white",
    ) -> tuple[torch.Tensor, torch.Tensor]:
        cascade = start(model)
        told, behind = watch(cascade), background_of(cascade, background)
        lead_away = negative.strip() or None
        made: list[Image.Image] = []
        for number, one in enumerate(image):
            found = cascade.upscale(
                to_pil(one), prompt, seed + number, lead_away, progress=told, background=behind
            )
            made += found.images
        return to_tensors(made)


class OpenImagenEdit:
    """Images made anew: all of them, or where a mask is 1."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "mask")
    FUNCTION = "edit"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        strength = {"default": 0.6, "min": 0.0, "max": 1.0, "step": 0.01}
        return {
            "required": {
                "model": ("OPEN_IMAGEN_MODEL",),
                "image": ("IMAGE",),
                "prompt": PROMPT,
                "strength": ("FLOAT", strength),
                "seed": SEED,
            },
            "optional": {"mask": ("MASK",), "negative": NEGATIVE},
        }

    def edit(
        self,
        model: Model,
        image: torch.Tensor,
        prompt: str,
        strength: float,
        seed: int,
        mask: torch.Tensor | None = None,
        negative: str = "",
    ) -> tuple[torch.Tensor, torch.Tensor]:
        cascade = start(model)
        told, made = watch(cascade), list[Image.Image]()
        for number, one in enumerate(image):
            # One mask serves all images; white is made anew.
            where = None if mask is None else to_pil(mask[min(number, len(mask) - 1)])
            found = cascade.edit(
                to_pil(one),
                prompt,
                mask=where,
                strength=strength,
                seed=seed + number,
                negative=negative.strip() or None,
                progress=told,
            )
            made += found.images
        return to_tensors(made)


NODE_CLASS_MAPPINGS: dict[str, type] = {
    "OpenImagenLoad": OpenImagenLoad,
    "OpenImagenAdapter": OpenImagenAdapter,
    "OpenImagenGenerate": OpenImagenGenerate,
    "OpenImagenUpscale": OpenImagenUpscale,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "OpenImagenLoad": "Load open_imagen model",
    "OpenImagenAdapter": "Add open_imagen adapter",
    "OpenImagenGenerate": "Generate (open_imagen)",
    "OpenImagenUpscale": "Upscale (open_imagen)",
}
if hasattr(open_imagen.Cascade, "edit"):  # not in the first versions of the package
    NODE_CLASS_MAPPINGS["OpenImagenEdit"] = OpenImagenEdit
    NODE_DISPLAY_NAME_MAPPINGS["OpenImagenEdit"] = "Edit (open_imagen)"
