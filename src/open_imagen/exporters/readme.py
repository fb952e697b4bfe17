"""The README of exported folders: how to use what is in them."""

from open_imagen.cascade.cascade import Cascade
from open_imagen.version import __version__

PIPELINE = """# {name} for diffusers

Exported by open_imagen {version}. It needs torch, diffusers and transformers, and nothing of
open_imagen: the networks and the sampling are in the Python files of this folder, which diffusers
runs (`trust_remote_code=True`; read them first).

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("FOLDER", trust_remote_code=True)
image = pipe("{prompt}", seed=0).images[0]
```

The same seed gives the same image as `imagen generate --seed`. `num_inference_steps`,
`guidance_scale` and `settings={{"STAGE": {{...}}}}` change the model's own defaults, `num_stages`
runs fewer stages, `generator=` may stand in place of `seed=`.{more}

| stage | resolution | steps | guidance |
|---|---|---|---|
{rows}
"""
NO_ENCODER = """

The text encoder ({encoder}) is not in this folder: give its tokens as `prompt_embeds` [B, L, C] and
`prompt_mask` [B, L]."""
ALPHA = """

Images have transparency: `background="transparent"` keeps it, `"#rrggbb"` sets the background."""
WORLD = """

open_imagen translates prompts in other languages before this model reads them; the pipeline reads
prompts as they are, in English."""
DEEPFLOYD = """# {name} for diffusers

Exported by open_imagen {version}: diffusers' own classes, no code of ours.

```python
from diffusers import DiffusionPipeline

base = DiffusionPipeline.from_pretrained("FOLDER/{base}")
embeds, negative = base.encode_prompt("a photo of a red fox")
images = base(
    prompt_embeds=embeds, negative_prompt_embeds=negative, num_inference_steps={steps},
    guidance_scale={guidance}, output_type="pt",
).images
```
"""
LARGER = """
```python
larger = DiffusionPipeline.from_pretrained("FOLDER/{name}", text_encoder=None)
images = larger(
    image=images, prompt_embeds=embeds, negative_prompt_embeds=negative, height={side},
    width={side}, noise_level={level}, num_inference_steps={steps}, guidance_scale={guidance},
    output_type="pt",
).images
```
"""
ONNX = """# {name} as ONNX

Exported by open_imagen {version}, a file for each stage: {files}. What the loop needs to know
(noise levels, what the network predicts, the text encoder) is in the `open_imagen` entry of each
file's metadata, and in the .json beside it. The loop in numpy is in open_imagen's
docs/guides/exporting.md.
"""


def of_pipeline(cascade: Cascade, text_encoder: bool) -> str:
    """For a pipeline with its own module."""
    rows = []
    for name, stage in cascade.stages.items():
        how = stage.config.sampling.resolve()
        steps = len(how.levels(stage.config.schedule)) - 1
        rows.append(f"| {name} | {stage.config.resolution} | {steps} | {how.guidance:g} |")
    more = "" if text_encoder else NO_ENCODER.format(encoder=cascade.config.encoder)
    more += ALPHA if cascade.has_alpha else ""
    more += WORLD if cascade.config.world else ""
    return PIPELINE.format(
        name=cascade.name,
        version=__version__,
        prompt="a red circle above a blue square"
        if cascade.config.world
        else "a photo of a red fox",
        more=more,
        rows="\n".join(rows),
    )


def of_deepfloyd(cascade: Cascade) -> str:
    """For IF's own pipelines."""
    base, *larger = cascade.stages.values()
    how = base.config.sampling.resolve()
    text = DEEPFLOYD.format(
        name=cascade.name,
        version=__version__,
        base=base.config.name,
        steps=how.steps,
        guidance=how.guidance,
    )
    for stage in larger:
        how = stage.config.sampling.resolve()
        text += LARGER.format(
            name=stage.config.name,
            side=stage.config.resolution,
            level=round(1000 * (how.noise_level or 0)),
            steps=how.steps,
            guidance=how.guidance,
        )
    return text


def of_onnx(cascade: Cascade) -> str:
    """For ONNX files."""
    files = ", ".join(f"`{name}.onnx`" for name in cascade.stages)
    return ONNX.format(name=cascade.name, version=__version__, files=files)
