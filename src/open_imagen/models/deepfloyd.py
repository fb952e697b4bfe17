"""DeepFloyd IF's U-Nets as ours: their config, or the shapes of their weights, and their names.

Their files are those of the class UNet2DConditionModel of diffusers. What our U-Net cannot do as
they do is refused by name, never passed over.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from open_imagen.errors import CheckpointError
from open_imagen.models.unet import UNetConfig

DOWN = {"ResnetDownsampleBlock2D": False, "SimpleCrossAttnDownBlock2D": True}
"""Whether a level has attention, by the name of its block."""

RESIDUAL = {
    "norm_in": ["norm1"],
    "conv_in": ["conv1"],
    "scale_shift": ["time_emb_proj"],
    "norm_out": ["norm2"],
    "conv_out": ["conv2"],
    "shortcut": ["conv_shortcut"],
}
ATTENTION = {
    "norm": ["group_norm"],
    "query": ["to_q"],
    "keys_values": ["to_k", "to_v"],
    "norm_text": ["norm_cross"],
    "text_keys_values": ["add_k_proj", "add_v_proj"],
    "out": ["to_out.0"],
}
"""Our layers and theirs; two of theirs are one of ours, rows of the first above the second's."""

DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 4,
    "out_channels": 4,
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "down_block_types": None,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": None,
    "only_cross_attention": False,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "cross_attention_dim": 1280,
    "encoder_hid_dim": None,
    "attention_head_dim": 8,
    "dual_cross_attention": False,
    "use_linear_projection": False,
    "class_embed_type": None,
    "addition_embed_type": None,
    "num_class_embeds": None,
    "upcast_attention": False,
    "resnet_time_scale_shift": "default",
    "resnet_skip_time_act": False,
    "resnet_out_scale_factor": 1.0,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "time_cond_proj_dim": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "projection_class_embeddings_input_dim": None,
    "class_embeddings_concat": False,
    "mid_block_only_cross_attention": None,
    "cross_attention_norm": None,
    "addition_embed_type_num_heads": 64,
    # Keys that diffusers added after IF was published (0.16); its repositories lack them.
    "addition_time_embed_dim": None,
    "attention_type": "default",
    "dropout": 0.0,
    "encoder_hid_dim_type": None,
    "num_attention_heads": None,
    "reverse_transformer_layers_per_block": None,
    "transformer_layers_per_block": 1,
}
"""What a missing key of UNet2DConditionModel's config means."""

FIXED: dict[str, tuple[Any, ...]] = {
    "addition_embed_type": ("text",),
    "encoder_hid_dim_type": ("text_proj", None),  # the only projection where none is named
    "cross_attention_norm": ("group_norm",),
    "resnet_time_scale_shift": ("scale_shift",),
    "mid_block_type": ("UNetMidBlock2DSimpleCrossAttn",),
    "class_embed_type": ("timestep", None),
}
"""Settings that must have one of these values."""

AT_DEFAULT = (
    *("time_embedding_type", "conv_in_kernel", "conv_out_kernel", "norm_num_groups", "norm_eps"),
    *("flip_sin_to_cos", "freq_shift", "center_input_sample", "class_embeddings_concat"),
    *("dual_cross_attention", "attention_type", "timestep_post_act", "time_cond_proj_dim"),
    *("num_attention_heads", "transformer_layers_per_block", "num_class_embeds", "dropout"),
    *("reverse_transformer_layers_per_block", "projection_class_embeddings_input_dim"),
    "addition_time_embed_dim",
)
"""Settings that must have their default. The others are read below, or change nothing in IF's
kinds of blocks (downsample_padding, upcast_attention, use_linear_projection)."""


def differences(
    theirs: Mapping[str, Any], defaults: Mapping[str, Any], fixed: Mapping[str, tuple[Any, ...]]
) -> list[str]:
    """Settings that differ from the fixed values, as "key = value"; a missing one is the default.

    A key without a default here is of a newer diffusers than is known; None and False mean there
    that something new is off, anything else counts as a difference.
    """
    wrong = [
        f"{key} = {value!r}"
        for key, allowed in fixed.items()
        if same(value := theirs.get(key, defaults[key])) not in allowed
    ]
    return wrong + [
        f"{key} = {value!r} (unknown)"
        for key, value in theirs.items()
        if key not in defaults and not key.startswith("_") and value not in (None, False)
    ]


def same(value: Any) -> Any:
    """The one value of a setting that is given for each level or side, if they are all equal."""
    if isinstance(value, list | tuple) and value and all(one == value[0] for one in value):
        return value[0]
    return value


def _mistyped(theirs: Mapping[str, Any]) -> list[str]:
    """Settings of a config, defaults filled in, that are not even of the kind they must be."""

    def whole(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value > 0

    def wholes(value: Any) -> bool:
        return isinstance(value, list | tuple) and len(value) > 0 and all(map(whole, value))

    def names(value: Any) -> bool:
        return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)

    size, embedding, layers = (
        theirs[key] for key in ("sample_size", "time_embedding_dim", "layers_per_block")
    )
    heads, width = theirs["addition_embed_type_num_heads"], same(theirs["encoder_hid_dim"])
    right = {
        "block_out_channels": wholes(theirs["block_out_channels"]),
        "down_block_types": names(theirs["down_block_types"]),
        "up_block_types": names(theirs["up_block_types"]),
        "layers_per_block": whole(layers) or wholes(layers),
        "sample_size": size is None or whole(same(size)),
        "time_embedding_dim": embedding is None or whole(embedding),
        "encoder_hid_dim": whole(width),
        "cross_attention_dim": whole(same(theirs["cross_attention_dim"])),
        "attention_head_dim": whole(same(theirs["attention_head_dim"])),
        "addition_embed_type_num_heads": whole(heads) and not (whole(width) and width % heads),
        "only_cross_attention": isinstance(same(theirs["only_cross_attention"]), bool),
        "act_fn": isinstance(theirs["act_fn"], str),
        "resnet_out_scale_factor": isinstance(theirs["resnet_out_scale_factor"], int | float),
    }
    return [f"{key} = {theirs[key]!r}" for key, ok in right.items() if not ok]


def _not_ours(theirs: Mapping[str, Any]) -> list[str]:
    """Settings of a config, defaults filled in, that combine as no network of IF does."""
    widths, kinds, wrong = theirs["block_out_channels"], theirs["down_block_types"], []
    attends = [DOWN.get(kind) for kind in kinds]
    if None in attends or len(kinds) != len(widths):
        wrong.append(f"down_block_types = {kinds}")
    elif not attends[-1]:
        wrong.append(f"down_block_types = {kinds} (the last level must have attention)")
    mirrored = {True: "SimpleCrossAttnUpBlock2D", False: "ResnetUpsampleBlock2D", None: ""}
    if theirs["up_block_types"] != [mirrored[one] for one in reversed(attends)]:
        wrong.append(f"up_block_types = {theirs['up_block_types']}")
    embedding = theirs["time_embedding_dim"] or 4 * widths[0]
    if any(width % widths[0] for width in [*widths, embedding]) or widths[0] % 32:
        wrong.append(f"block_out_channels = {widths}, time_embedding_dim = {embedding}")
    cross_only, middle = _cross_only(theirs)
    if middle != cross_only:
        wrong.append("mid_block_only_cross_attention unlike only_cross_attention")
    # The embedding goes through the activation once, for all blocks or in each: the same numbers.
    once = theirs["time_embedding_act_fn"]
    if bool(theirs["resnet_skip_time_act"]) != (once is not None):
        wrong.append("resnet_skip_time_act unlike time_embedding_act_fn")
    if once not in (None, theirs["act_fn"]):
        wrong.append(f"time_embedding_act_fn = {once!r}")
    if theirs["mid_block_scale_factor"] != theirs["resnet_out_scale_factor"]:
        wrong.append("mid_block_scale_factor unlike resnet_out_scale_factor")
    layers = theirs["layers_per_block"]
    if not isinstance(layers, int) and len(layers) != len(widths):
        wrong.append(f"layers_per_block = {layers}")
    if (theirs["in_channels"] == 6) != (theirs["class_embed_type"] == "timestep"):
        wrong.append(f"in_channels = {theirs['in_channels']} with class_embed_type")
    if theirs["in_channels"] not in (3, 6) or theirs["out_channels"] != 6:
        found = f"{theirs['in_channels']}, out_channels = {theirs['out_channels']}"
        wrong.append(f"in_channels = {found}")
    return wrong


def _cross_only(theirs: Mapping[str, Any]) -> tuple[Any, Any]:
    """Whether attention is to the text alone: of the levels, and of the middle."""
    levels, middle = theirs["only_cross_attention"], theirs["mid_block_only_cross_attention"]
    if middle is None:  # the levels' where that is one value, else False
        middle = levels if isinstance(levels, bool) else False
    return same(levels), middle


def unet_config(theirs: Mapping[str, Any], source: str) -> UNetConfig:
    """Our config of their ``unet/config.json``; a key that it lacks has its default.

    Raises:
        CheckpointError: it asks for something that IF has not and our U-Net cannot do.
    """
    fixed = {**FIXED, **{key: (DEFAULTS[key],) for key in AT_DEFAULT}}
    wrong = differences(theirs, DEFAULTS, fixed)
    theirs = {**DEFAULTS, **theirs}
    wrong += _mistyped(theirs) or _not_ours(theirs)
    if wrong:
        raise CheckpointError(f"{source} is no network of DeepFloyd IF: {'; '.join(wrong)}.")

    widths, kinds = theirs["block_out_channels"], theirs["down_block_types"]
    embedding = theirs["time_embedding_dim"] or 4 * widths[0]
    layers = theirs["layers_per_block"]
    return UNetConfig(
        channels=widths[0],
        multipliers=tuple(width // widths[0] for width in widths),
        blocks=tuple(layers) if isinstance(layers, list) else (layers,) * len(widths),
        attention=tuple(DOWN[kind] for kind in kinds),
        attends="text" if _cross_only(theirs)[0] else "both",
        head_width=same(theirs["attention_head_dim"]),
        text_width=theirs["encoder_hid_dim"],
        text_projection=same(theirs["cross_attention_dim"]),
        text_norm="group",
        pooling="class",
        pooling_head_width=theirs["encoder_hid_dim"] // theirs["addition_embed_type_num_heads"],
        embedding_multiplier=embedding // widths[0],
        level="step",
        activation=theirs["act_fn"],
        residual_divisor=theirs["resnet_out_scale_factor"],
        out_channels=theirs["out_channels"],
        lowres=theirs["in_channels"] == 6,
    )


def derived_config(tensors: Mapping[str, Tensor], source: str) -> UNetConfig:
    """Our config from the shapes of published weights that have lost their config.json.

    Activation, head widths and the divisor of residual sums leave no trace in shapes; those of the
    published stage I, or II where noise levels are embedded, are taken.

    Raises:
        CheckpointError: these are not the weights of such a network.
    """

    def count(prefix: str) -> int:
        numbers = {
            name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)
        }
        return len(numbers)

    try:
        depth = count("down_blocks.")
        widths = [tensors[f"down_blocks.{i}.resnets.0.conv2.weight"].shape[0] for i in range(depth)]
        embedding = tensors["time_embedding.linear_2.weight"].shape[0]
        text_projection, text_width = tensors["encoder_hid_proj.weight"].shape
        lowres = "class_embedding.linear_1.weight" in tensors
        return UNetConfig(
            channels=widths[0],
            multipliers=tuple(width // widths[0] for width in widths),
            blocks=tuple(count(f"down_blocks.{i}.resnets.") for i in range(depth)),
            attention=tuple(count(f"down_blocks.{i}.attentions.") > 0 for i in range(depth)),
            attends="both" if "mid_block.attentions.0.to_k.weight" in tensors else "text",
            text_width=text_width,
            text_projection=text_projection,
            text_norm="group",
            pooling="class",
            embedding_multiplier=embedding // widths[0],
            level="step",
            activation="gelu",
            residual_divisor=2**0.5 if lowres else 1.0,
            out_channels=tensors["conv_out.weight"].shape[0],
            lowres=lowres,
        )
    except KeyError as missing:
        raise CheckpointError(
            f"{source} has no config.json, and its weights are not those of a DeepFloyd IF "
            f"network: {missing.args[0]} is missing."
        ) from missing


def origins(config: UNetConfig, names: Iterable[str], source: str) -> dict[str, list[str]]:
    """Our weights, each with the names of the published weights that are stacked into it.

    Raises:
        CheckpointError: weights are missing, or some are left over; the message lists them.
    """
    left, ours = set(names), {}
    for our, theirs in layer_names(config):
        for part in ("weight", "bias"):
            ours[f"{our}.{part}"] = [f"{one}.{part}" for one in theirs]
    ours["pooled_text.offset"] = ["add_embedding.pool.positional_embedding"]
    wanted = [name for parts in ours.values() for name in parts]
    missing = [name for name in wanted if name not in left]
    unknown = sorted(left.difference(wanted))
    if missing or unknown:
        problems = [f"{_some(missing)} missing"] if missing else []
        problems += [f"{_some(unknown)} unknown"] if unknown else []
        raise CheckpointError(
            f"The weights {source} do not fit their config: {'; '.join(problems)}."
        )
    return ours


def assembled(our: str, theirs: Sequence[Tensor]) -> Tensor:
    """One weight of ours, of theirs in order."""
    if our == "pooled_text.offset":
        return theirs[0].flatten()
    return torch.cat(list(theirs)) if len(theirs) > 1 else theirs[0]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def layer_names(config: UNetConfig) -> Iterator[tuple[str, list[str]]]:
    """All pairs of (one of our layers, the published layers that are stacked into it)."""
    yield from (
        ("level.mlp.0", ["time_embedding.linear_1"]),
        ("level.mlp.2", ["time_embedding.linear_2"]),
        ("project_text", ["encoder_hid_proj"]),
        ("pooled_text.norm_in", ["add_embedding.norm1"]),
        ("pooled_text.query", ["add_embedding.pool.q_proj"]),
        ("pooled_text.keys_values", ["add_embedding.pool.k_proj", "add_embedding.pool.v_proj"]),
        ("pooled_text.out", ["add_embedding.proj"]),
        ("pooled_text.norm_out", ["add_embedding.norm2"]),
        ("stem", ["conv_in"]),
        ("norm", ["conv_norm_out"]),
        ("head", ["conv_out"]),
    )
    if config.lowres:
        yield "lowres_level.mlp.0", ["class_embedding.linear_1"]
        yield "lowres_level.mlp.2", ["class_embedding.linear_2"]
    for our, their, inside, outside, attends in _steps(config):
        for layer, names in RESIDUAL.items():
            if layer != "shortcut" or inside != outside:
                yield f"{our}.{layer}", [f"{their}.{name}" for name in names]
        if attends:
            place, number = our.rsplit(".", 1)[0], their.replace("resnets", "attentions")
            for layer, names in ATTENTION.items():
                if layer != "keys_values" or config.attends == "both":
                    yield f"{place}.attention.{layer}", [f"{number}.{name}" for name in names]


def _steps(config: UNetConfig) -> Iterator[tuple[str, str, int, int, bool]]:
    """(our residual block, theirs, width in, width out, whether attention follows) in order."""
    widths, depth = config.widths, len(config.widths)
    skips, place = [widths[0]], 0
    for level, width in enumerate(widths):
        for i in range(config.blocks[level]):
            theirs = f"down_blocks.{level}.resnets.{i}"
            yield f"down.{place}.block", theirs, skips[-1], width, config.attention[level]
            skips.append(width)
            place += 1
        if level < depth - 1:
            theirs = f"down_blocks.{level}.downsamplers.0"
            yield f"down.{place}.block", theirs, width, width, False
            skips.append(width)
            place += 1
    width, place = widths[-1], 0
    yield "middle.0.block", "mid_block.resnets.0", width, width, config.attention[-1]
    yield "middle.1.block", "mid_block.resnets.1", width, width, False
    for block, level in enumerate(reversed(range(depth))):
        for i in range(config.blocks[level] + 1):
            theirs = f"up_blocks.{block}.resnets.{i}"
            inside = width + skips.pop()
            width = widths[level]
            yield f"up.{place}.block", theirs, inside, width, config.attention[level]
            if level and i == config.blocks[level]:
                yield f"up.{place}.after", f"up_blocks.{block}.upsamplers.0", width, width, False
            place += 1
