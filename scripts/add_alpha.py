"""Give the networks of a model an alpha channel: the same images, opaque, from RGBA networks.

    python scripts/add_alpha.py MODEL --out DIR [--letters N]

The first convolution ignores the new channel, and the last one predicts alpha = 1 where the network
predicts x; letter tokens, if asked for, start at random.
"""

import argparse
import dataclasses
from pathlib import Path

import torch

from open_imagen.cascade.folder import write_folder
from open_imagen.cascade.io import load
from open_imagen.cascade.stage import Stage
from open_imagen.errors import ConfigError, OpenImagenError


def add_alpha(stage: Stage, letters: int = 0) -> Stage:
    """A stage of RGBA images that draws what ``stage``, whose weights are loaded, draws.

    Raises:
        ConfigError: it has alpha already, or does not predict x, or predicts variances.
    """
    if stage.channels != 3 or stage.config.objective.prediction != "x" or stage.learned_range:
        raise ConfigError(
            f"Stage {stage.config.name} must have three channels and predict x, without variances."
        )
    network = {**stage.saved_network, "image_channels": 4, "out_channels": 0, "letters": letters}
    if network["network"] != "unet":
        network.pop("out_channels")
    torch.manual_seed(0)
    with_alpha = Stage(dataclasses.replace(stage.config, network=network))
    own, old = with_alpha.network.state_dict(), stage.network.state_dict()
    area = stage.network_config.patch**2
    for name, tensor in old.items():
        if name == "stem.weight":  # one group of patch^2 inputs for each channel of each image
            own[name].zero_()
            for image in range(tensor.shape[1] // (3 * area)):
                rgb = tensor[:, 3 * area * image : 3 * area * (image + 1)]
                own[name][:, 4 * area * image : 4 * area * image + 3 * area] = rgb
        elif name in ("head.weight", "head.bias"):
            own[name][: 3 * area] = tensor
            own[name][3 * area :] = 1.0 if name == "head.bias" else 0.0
        else:
            own[name].copy_(tensor)
    with_alpha.network.load_state_dict(own)
    return with_alpha.eval().requires_grad_(False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a shipped model, a folder, or hf:org/name")
    parser.add_argument("--out", type=Path, required=True, help="the model folder to write")
    parser.add_argument("--letters", type=int, default=0, help="letters that the networks read")
    options = parser.parse_args()
    try:
        model = load(options.model, device="cpu")
        stages = [add_alpha(stage, options.letters) for stage in model.stages.values()]
    except OpenImagenError as error:
        parser.error(str(error))
    config = dataclasses.replace(model.config, name=f"{model.name}-alpha", default_stages=None)
    write_folder(options.out, config, stages, torch.float32)
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
