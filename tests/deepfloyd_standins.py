"""Tiny DeepFloyd IF pipelines of diffusers' own classes, with random weights."""

import torch
import transformers
from diffusers import (
    DDPMScheduler,
    IFPipeline,
    IFSuperResolutionPipeline,
    UNet2DConditionModel,
)

TEXT, TOKENS = 24, 77
CALM = 0.02
"""Spread of weights; with wilder ones a chain is chaotic and makes pictures of rounding errors."""
WORDS = ["a", "red", "circle", "above", "blue", "square", "no", "text"]


def make_unet(lowres=False, widths=(32, 64), layers=1, attends=None, cross_only=False, std=0.05):
    torch.manual_seed(1)
    attends = attends or [level > 0 for level in range(len(widths))]
    down = {True: "SimpleCrossAttnDownBlock2D", False: "ResnetDownsampleBlock2D"}
    up = {True: "SimpleCrossAttnUpBlock2D", False: "ResnetUpsampleBlock2D"}
    network = UNet2DConditionModel(
        sample_size=64 if lowres else 16,
        in_channels=6 if lowres else 3,
        out_channels=6,
        block_out_channels=list(widths),
        layers_per_block=layers,
        down_block_types=[down[one] for one in attends],
        up_block_types=[up[one] for one in reversed(attends)],
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        act_fn="gelu",
        attention_head_dim=8,
        cross_attention_dim=32,
        encoder_hid_dim=TEXT,
        encoder_hid_dim_type="text_proj",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        only_cross_attention=cross_only,
        class_embed_type="timestep" if lowres else None,
        time_embedding_act_fn="gelu" if lowres else None,
        time_embedding_dim=4 * widths[0] if lowres else None,
        resnet_skip_time_act=lowres,
        resnet_out_scale_factor=2**0.5 if lowres else 1.0,
        mid_block_scale_factor=2**0.5 if lowres else 1.0,
    ).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=std)
    return network


def make_scheduler(cap):
    return DDPMScheduler(
        1000,
        beta_schedule="squaredcos_cap_v2",
        variance_type="learned_range",
        prediction_type="epsilon",
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=cap,
    )


def make_text():
    torch.manual_seed(0)
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(f"\u2581{word}", -1.0) for word in WORDS]
    tokenizer = transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0)
    config = transformers.T5Config(
        vocab_size=len(vocabulary),
        d_model=TEXT,
        d_kv=8,
        d_ff=40,
        num_layers=2,
        num_heads=3,
        feed_forward_proj="gated-gelu",
    )
    return tokenizer, transformers.T5EncoderModel(config).eval()


def without_safety(kind, **parts):
    return kind(
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
        **parts,
    )


def make_pipelines():
    """Stage I and II, tiny and random, with the classes and in the layout of diffusers."""
    tokenizer, text_encoder = make_text()
    shared = {"tokenizer": tokenizer, "text_encoder": text_encoder}
    first = without_safety(
        IFPipeline, unet=make_unet(std=CALM), scheduler=make_scheduler(1.5), **shared
    )
    second = without_safety(
        IFSuperResolutionPipeline,
        unet=make_unet(lowres=True, widths=(32, 32, 64), layers=[1, 2, 1], std=CALM),
        scheduler=make_scheduler(1.0),
        image_noising_scheduler=DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2"),
        **shared,
    )
    for pipeline in (first, second):
        pipeline.set_progress_bar_config(disable=True)
    return first, second


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]
