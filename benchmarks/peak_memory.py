"""Peak memory of a text encoder and a network in turn, against each alone and both together.

    python benchmarks/peak_memory.py

Both are random, of the real classes (T5, and DeepFloyd IF's stage I), in files of about the sizes
given. Each way runs in a process of its own; its peak is the resident memory at its highest,
seen every two milliseconds, less what the process held before it loaded anything.
"""

import argparse
import tempfile
from pathlib import Path

from measuring import apart, highest

TOKENS = 77


def write(folder: Path, encoder_mb: int, network_mb: int) -> None:
    """A folder of stage I, as published: unet/, text_encoder/, tokenizer/."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    from open_imagen.models.deepfloyd import _layers
    from open_imagen.models.unet import UNet, UNetConfig
    from open_imagen.storage import save_tensors

    layers = max(1, round(encoder_mb * 2**20 / 4 / (4 * 512**2 + 3 * 512 * 1024)))
    text = transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=64,
            d_model=512,
            d_kv=64,
            d_ff=1024,
            num_heads=8,
            num_layers=layers,
            feed_forward_proj="gated-gelu",
        )
    )
    text.save_pretrained(folder / "text_encoder")
    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "a": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (folder / "tokenizer").mkdir()
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))

    channels = 64
    while True:
        config = UNetConfig(
            channels=channels,
            text_width=512,
            text_projection=256,
            text_norm="group",
            pooling="class",
            pooling_head_width=64,
            level="step",
            activation="gelu",
            out_channels=6,
        )
        with torch.device("meta"):
            network = UNet(config)
        if 4 * sum(p.numel() for p in network.parameters()) > network_mb * 2**20:
            break
        channels += 64
    network = UNet(config)
    theirs = {}
    own = dict(network.named_parameters())
    for our, names in _layers(config):
        for part in ("weight", "bias"):
            for name, rows in zip(names, own[f"{our}.{part}"].chunk(len(names)), strict=True):
                theirs[f"{name}.{part}"] = rows
    theirs["add_embedding.pool.positional_embedding"] = own["pooled_text.offset"][None]
    save_tensors(folder / "unet" / "diffusion_pytorch_model.safetensors", theirs)


def peak(folder: Path, way: str) -> tuple[float, float]:
    """Megabytes that one picture in one step takes, or only a part of that; see `resident`."""
    import torch

    import open_imagen as oi
    from open_imagen.text import encoders
    from open_imagen.types import TextEmbedding

    row = encoders.ENCODERS["deepfloyd-t5-xxl"]
    encoders.ENCODERS._entries["deepfloyd-t5-xxl"] = encoders.EncoderSpec(
        **{**row.__dict__, "width": 512}
    )
    import transformers

    assert transformers.T5EncoderModel  # loaded before the count begins

    def work() -> None:
        cascade = oi.load(folder, device="cpu", offload=way != "together")
        settings = oi.Sampling(steps=1, guidance=1.0)
        if way == "encoder":
            cascade.text(["a"])
        elif way == "network":
            stage = cascade.stages["base"]
            stage.load_weights(cascade.device)
            seen = torch.ones(1, TOKENS, dtype=torch.bool)
            text = TextEmbedding(torch.zeros(1, TOKENS, stage.network_config.text_width), seen)
            stage.sample(text, [torch.Generator()], settings, negative=text)
        else:
            cascade.generate("a", settings={"base": settings})

    return highest(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoder", type=int, default=1000, help="megabytes")
    parser.add_argument("--network", type=int, default=1000, help="megabytes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "stage"
        folder.mkdir()
        write(folder, options.encoder, options.network)
        for part in ("text_encoder", "unet"):
            size = sum(file.stat().st_size for file in (folder / part).iterdir())
            print(f"{part:14} {size / 2**20:8,.0f} MB in its files")
        for way in ("encoder", "network", "turns", "together"):
            found = apart(peak, folder, way)
            print(f"peak, {way:8} {found[0]:8,.0f} MB own, {found[1]:8,.0f} MB with mapped files")


if __name__ == "__main__":
    main()
