"""Cascades of DeepFloyd IF's shape as IF's own pipelines of diffusers, a folder for each stage.

The reverse of models/deepfloyd.py and cascade/deepfloyd.py: what those read is written here, and
what IF's classes cannot express is named.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.deepfloyd import (
    SCHEDULE,
    SCHEDULER,
    SCHEDULER_FILE,
    SPACINGS,
    WEIGHTS,
)
from open_imagen.cascade.stage import Stage
from open_imagen.config import plain
from open_imagen.exporters.diffusers_export import DIFFUSERS, weights_of
from open_imagen.exporters.text_encoder import encoder_folder, write_text_encoder, write_tokenizer
from open_imagen.models.deepfloyd import layer_names
from open_imagen.models.unet import UNetConfig
from open_imagen.storage import link_or_copy, save_tensors, write_json
from open_imagen.text.encoders import ENCODERS

NETWORK: dict[str, Any] = {
    "text_norm": "group",
    "pooling": "class",
    "level": "step",
    "text_layers": 0,
    "text_denoiser": 0,
    "patch": 1,
    "positions": 0,
    "letters": 0,
    "augment_labels": 0,
    "image_channels": 3,
    "out_channels": 6,
    "dropout": 0.0,
}
"""What a network of IF's shape has."""
SAMPLING: dict[str, Any] = {
    "sampler": "ddpm",
    "guidance_low": -float("inf"),
    "guidance_high": float("inf"),
    "guidance_steps": float("inf"),
    "guidance_rescale": 0.0,
    "logsnr_start": -float("inf"),
    "timesteps": (),
    "color_correction": 0.0,
}
"""What IF's pipelines do by themselves."""
NO_SAFETY: dict[str, Any] = {
    "feature_extractor": [None, None],
    "safety_checker": [None, None],
    "watermarker": [None, None],
    "requires_safety_checker": False,
}


def differences(cascade: Cascade) -> list[str]:
    """Why a cascade cannot be IF's pipelines; nothing if it can."""
    spec = ENCODERS[cascade.config.encoder]
    wrong = []
    if spec.family != "t5" or not spec.padded:
        wrong.append(f"encoder = {cascade.config.encoder}")
    for stage in cascade.stages.values():
        wrong += [f"{stage.config.name}: {one}" for one in _stage_differences(stage)]
    return wrong


def _stage_differences(stage: Stage) -> list[str]:
    config, network = stage.config, stage.network_config
    if not isinstance(network, UNetConfig):
        return [f"network = {type(network).__name__}"]
    wrong = _unlike(network, NETWORK) + _unlike(config.sampling.resolve(), SAMPLING)
    if not network.text_projection or not network.attention[-1] or network.channels % 32:
        wrong.append("the shape of its network")
    if config.schedule != SCHEDULE:
        wrong.append(f"schedule = {config.schedule.name}")
    if config.objective.prediction != "eps" or config.unconditional != "empty":
        wrong.append(f"prediction = {config.objective.prediction}, {config.unconditional} text")
    if config.distilled_guidance != 1:
        wrong.append(f"distilled_guidance = {config.distilled_guidance}")
    if config.sampling.resolve().spacing not in SPACINGS.values():
        wrong.append(f"spacing = {config.sampling.spacing}")
    how = config.augmentation
    if config.lowres and (not how.align_corners or how.schedule != SCHEDULE):
        wrong.append("augmentation")
    return wrong


def _unlike(settings: Any, wanted: dict[str, Any]) -> list[str]:
    return [
        f"{key} = {getattr(settings, key)!r}"
        for key, value in wanted.items()
        if getattr(settings, key) != value
    ]


def write_pipelines(cascade: Cascade, folder: Path, text_encoder: bool, dtype: Any) -> None:
    """Write an IFPipeline of the base, and an IFSuperResolutionPipeline of each later stage."""
    first: Path | None = None
    for stage in cascade.stages.values():
        place = folder / stage.config.name
        lowres = bool(stage.config.lowres)
        index: dict[str, Any] = {
            "_class_name": "IFSuperResolutionPipeline" if lowres else "IFPipeline",
            "_diffusers_version": DIFFUSERS,
            **NO_SAFETY,
            "scheduler": ["diffusers", "DDPMScheduler"],
            "text_encoder": [None, None],
            "tokenizer": [None, None],
            "unet": ["diffusers", "UNet2DConditionModel"],
        }
        if text_encoder:
            first = first or place
            _write_text(cascade, place, first)
            index["text_encoder"] = ["transformers", "T5EncoderModel"]
            index["tokenizer"] = ["transformers", _tokenizer_class(place)]
        if lowres:
            index["image_noising_scheduler"] = ["diffusers", "DDPMScheduler"]
            noising = SCHEDULER | {"beta_schedule": "squaredcos_cap_v2"}
            _write_scheduler(place / "image_noising_scheduler", noising)
        _write_scheduler(place / "scheduler", scheduler_settings(stage))
        write_json(place / "unet" / "config.json", unet_settings(stage))
        weights = {name: tensor.to(dtype) for name, tensor in diffusers_weights(stage).items()}
        save_tensors(place / "unet" / f"{WEIGHTS}.safetensors", weights, {"format": "pt"})
        write_json(place / "model_index.json", index)


def _write_text(cascade: Cascade, place: Path, first: Path) -> None:
    """The text encoder and its tokenizer; of later stages, links to those of the first."""
    if place != first:
        for file in [*(first / "text_encoder").iterdir(), *(first / "tokenizer").iterdir()]:
            link_or_copy(file, place / file.parent.name / file.name)
        return
    write_text_encoder(cascade, place / "text_encoder")
    source = encoder_folder(cascade)
    beside = source.parent / "tokenizer"
    files = [
        file
        for part in (beside if beside.is_dir() else source,)
        for file in sorted(part.iterdir())
        if file.name in ("spiece.model", "special_tokens_map.json", "added_tokens.json")
        or file.name.startswith("tokenizer")
    ]
    for file in files:
        link_or_copy(file, place / "tokenizer" / file.name)
    if not files:
        write_tokenizer(cascade, place / "tokenizer")


def _tokenizer_class(place: Path) -> str:
    own = (place / "tokenizer" / "tokenizer_config.json").is_file()
    plain_t5 = (place / "tokenizer" / "spiece.model").is_file() or own
    return "T5Tokenizer" if plain_t5 else "T5TokenizerFast"


def _write_scheduler(folder: Path, settings: dict[str, Any]) -> None:
    head = {"_class_name": "DDPMScheduler", "_diffusers_version": DIFFUSERS}
    write_json(folder / SCHEDULER_FILE, head | settings)


def scheduler_settings(stage: Stage) -> dict[str, Any]:
    """Of a DDPMScheduler that takes the steps that a stage's sampling defaults take."""
    how = stage.config.sampling.resolve()
    spacings = {ours: theirs for theirs, ours in SPACINGS.items()}
    return SCHEDULER | {
        "beta_schedule": "squaredcos_cap_v2",
        "variance_type": "learned_range",
        "timestep_spacing": spacings[str(how.spacing)],
        "thresholding": how.threshold == "dynamic",
        "clip_sample": how.threshold == "static",
        "dynamic_thresholding_ratio": (how.percentile or 0) / 100,
        "sample_max_value": min(how.threshold_cap or 1.0, 1e9),
    }


def unet_settings(stage: Stage) -> dict[str, Any]:
    """The config.json of UNet2DConditionModel for a network of IF's shape."""
    config = stage.network_config
    down = {True: "SimpleCrossAttnDownBlock2D", False: "ResnetDownsampleBlock2D"}
    up = {True: "SimpleCrossAttnUpBlock2D", False: "ResnetUpsampleBlock2D"}
    return {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": DIFFUSERS,
        "sample_size": stage.config.resolution,
        "in_channels": 6 if config.lowres else 3,
        "out_channels": config.out_channels,
        "block_out_channels": config.widths,
        "layers_per_block": plain(config.blocks),
        "down_block_types": [down[one] for one in config.attention],
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": [up[one] for one in reversed(config.attention)],
        "only_cross_attention": config.attends == "text",
        "mid_block_only_cross_attention": config.attends == "text",
        "act_fn": config.activation,
        "attention_head_dim": config.head_width,
        "cross_attention_dim": config.text_projection,
        "cross_attention_norm": "group_norm",
        "encoder_hid_dim": config.text_width,
        "encoder_hid_dim_type": "text_proj",
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": config.text_width // config.pooling_head_width,
        "class_embed_type": "timestep" if config.lowres else None,
        "resnet_time_scale_shift": "scale_shift",
        "time_embedding_dim": config.channels * config.embedding_multiplier,
        "time_embedding_act_fn": None,
        "resnet_skip_time_act": False,
        "resnet_out_scale_factor": config.residual_divisor,
        "mid_block_scale_factor": config.residual_divisor,
    }


def diffusers_weights(stage: Stage) -> dict[str, Tensor]:
    """A network's weights under the names that UNet2DConditionModel gives them."""
    own, theirs = weights_of(stage), dict[str, Tensor]()
    for our, names in layer_names(stage.network_config):
        for part in ("weight", "bias"):
            # Two layers of theirs are one of ours, rows of the first above the second's.
            pieces = own.pop(f"{our}.{part}").chunk(len(names))
            theirs |= {f"{name}.{part}": one for name, one in zip(names, pieces, strict=True)}
    theirs["add_embedding.pool.positional_embedding"] = own.pop("pooled_text.offset")[None]
    assert not own, f"no names for {sorted(own)}"
    return theirs
