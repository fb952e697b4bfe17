"""Write this folder: a tiny DeepFloyd IF as its repositories were laid out in April 2023.

It needs the libraries of that time in an environment of their own; README.md names them.
"""

import shutil
from pathlib import Path

import diffusers
import sentencepiece
import torch
import transformers
from diffusers import (
    DDPMScheduler,
    IFPipeline,
    IFSuperResolutionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import T5Config, T5EncoderModel, T5Tokenizer

HERE = Path(__file__).parent
WIDTH = 24
PROMPTS = ["a red circle above a blue square", "a blue circle"]
CORPUS = [*PROMPTS, "a red square below a blue circle", "text on a sign, no circle"]


def tokenizer(folder: Path) -> T5Tokenizer:
    """A slow tokenizer around a SentencePiece model with T5's special tokens."""
    model = folder / "spiece.model"
    with model.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS * 8),
            model_writer=file,
            vocab_size=28,
            model_type="unigram",
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
    made = T5Tokenizer(str(model), extra_ids=100, model_max_length=512)
    model.unlink()
    return made


def text_encoder(words: int) -> T5EncoderModel:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=words,
        d_model=WIDTH,
        d_kv=8,
        d_ff=40,
        num_layers=2,
        num_heads=3,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        is_encoder_decoder=True,
    )
    return T5EncoderModel(config).eval().half().float()


def unet(stage: int) -> UNet2DConditionModel:
    torch.manual_seed(stage)
    second = stage == 2
    network = UNet2DConditionModel(
        sample_size=64 if second else 16,
        in_channels=6 if second else 3,
        out_channels=6,
        block_out_channels=(32, 32),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        act_fn="gelu",
        attention_head_dim=8,
        cross_attention_dim=32,
        encoder_hid_dim=WIDTH,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        only_cross_attention=second,
        class_embed_type="timestep" if second else None,
        time_embedding_act_fn="gelu" if second else None,
        time_embedding_dim=32,
        resnet_skip_time_act=second,
        resnet_out_scale_factor=2**0.5 if second else 1.0,
        mid_block_scale_factor=2**0.5 if second else 1.0,
    ).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            # Small weights: with larger ones a chain of steps amplifies rounding errors.
            torch.nn.init.normal_(parameter, std=0.02)
    return network.half().float()


def scheduler(cap: float) -> DDPMScheduler:
    return DDPMScheduler(
        1000,
        beta_schedule="squaredcos_cap_v2",
        variance_type="learned_range",
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=cap,
    )


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def main() -> None:
    words = tokenizer(HERE)
    encoder = text_encoder(len(words))
    rest = {
        "safety_checker": None,
        "feature_extractor": None,
        "watermarker": None,
        "requires_safety_checker": False,
    }
    first = IFPipeline(
        tokenizer=words, text_encoder=encoder, unet=unet(1), scheduler=scheduler(1.5), **rest
    )
    second = IFSuperResolutionPipeline(
        tokenizer=words,
        text_encoder=encoder,
        unet=unet(2),
        scheduler=scheduler(1.0),
        image_noising_scheduler=DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2"),
        **rest,
    )
    how = {"output_type": "pt", "clean_caption": False}
    tokens, empty = first.encode_prompt(PROMPTS, device=torch.device("cpu"))
    small = first(PROMPTS, num_inference_steps=12, generator=generators(3, 4), **how).images
    large = second(
        PROMPTS, image=small, noise_level=250, num_inference_steps=7,
        generator=generators(5, 6), **how,
    ).images  # fmt: skip
    drawn = {"tokens": tokens, "empty": empty, "small": small, "large": large}
    save_file({name: each.contiguous() for name, each in drawn.items()}, HERE / "drawn.safetensors")

    shards = {"safe_serialization": True, "max_shard_size": "16KB"}
    encoder.save_pretrained(HERE / "t5" / "whole", safe_serialization=True)
    encoder.save_pretrained(HERE / "t5" / "shards", **shards)
    for part in (encoder, first.unet, second.unet):
        part.half()
    for name, pipeline in (("I", first), ("II", second)):
        pipeline.save_pretrained(HERE / name, safe_serialization=True, variant="fp16")
    # The real encoder is too large for one file, and stage II is used with the first one's.
    (HERE / "I" / "text_encoder" / "model.fp16.safetensors").rename(
        HERE / "t5" / "whole" / "model.fp16.safetensors"
    )
    encoder.save_pretrained(HERE / "I" / "text_encoder", variant="fp16", **shards)
    for part in ("text_encoder", "tokenizer"):
        shutil.rmtree(HERE / "II" / part)
    print(f"diffusers {diffusers.__version__}, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
