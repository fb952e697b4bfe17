"""Our own work on feature maps on a CPU (cpp/): built once, kept in the cache, called.

Every function here equals a few lines of torch, which are what runs wherever this does not.
"""

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from open_imagen.errors import MissingDependency

FOLDER = Path(__file__).with_name("cpp")
SOURCES = sorted(FOLDER.glob("*.cpp"))
HEADERS = sorted(FOLDER.glob("*.h"))
FLAGS = (
    *("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"),
    *("-std=c++17", "-shared", "-fPIC"),
    *(["-mprefer-vector-width=512"] if platform.machine() == "x86_64" else []),
)
ACTIVATIONS = {"": 0, "silu": 1, "gelu": 2}
ON_MATRIX_UNITS = 2
"""What `has_attention` says of the one that needs them, and the system's leave to use them."""
EACH_PIXEL = 0
"""In place of a number of groups: norms over the channels of each pixel."""


class Split(NamedTuple):
    """A float32 map [B, C, H, W] in two bfloat16 parts, high + low.

    high    [B, C, H, W]
    three   [B, 3C, H, W]: high, low, high
    """

    high: Tensor
    three: Tensor


@functools.cache
def library() -> Any:
    """The kernels, built for this machine if they are not yet there.

    Raises:
        MissingDependency: there is no C++ compiler, or it does not succeed.
    """
    file = _cache() / f"kernels-{_fingerprint()}.so"
    if not file.is_file():
        _build(file)
    try:
        found = ctypes.CDLL(str(file))
    except OSError as error:
        raise MissingDependency(
            f"{file} cannot be loaded: {error}", "Remove it; it is built again."
        ) from error
    whole, pointer, number = ctypes.c_int64, ctypes.c_void_p, ctypes.c_int
    found.norm_act.argtypes = [
        *(pointer, number, whole, whole, whole, whole, ctypes.c_double),
        *(pointer, pointer, pointer, pointer, whole, number, pointer, pointer, number),
    ]
    found.split.argtypes = [pointer, whole, whole, pointer, pointer, number]
    found.join.argtypes = [
        *(pointer, pointer, pointer, pointer, ctypes.c_float, whole, whole, pointer, number)
    ]
    found.attention.argtypes = [*[pointer] * 3, number, *[whole] * 5, pointer, number]
    found.attention_gradient.argtypes = [*[pointer] * 4, *[whole] * 5, pointer, pointer, number]
    found.convolve.argtypes = [
        *[pointer] * 4,
        *(number, ctypes.c_float),
        *[whole] * 5,
        *(pointer, number),
    ]
    found.prepare.argtypes = [pointer, *[whole] * 6, pointer, number]
    found.convolve_weights.argtypes = [pointer, pointer, number, *[whole] * 5, pointer, number]
    for function in (
        *(found.norm_act, found.split, found.join, found.attention, found.attention_gradient),
        *(found.prepare, found.convolve, found.convolve_weights),
    ):
        function.restype = None
    found.panel_width.restype = whole
    return found


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "open_imagen"


def _fingerprint() -> str:
    """Of the source, how it is built, and the processor that it is built for."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:  # not Linux
        processor = platform.processor()
    code = (file.read_text(encoding="utf-8") for file in SOURCES + HEADERS)
    what = (*code, " ".join(FLAGS), platform.machine(), processor)
    return hashlib.sha256("\n".join(what).encode()).hexdigest()[:16]


def _build(file: Path) -> None:
    compiler = os.environ.get("CXX", "g++")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            made = Path(folder) / file.name
            command = [compiler, *FLAGS, *map(str, SOURCES), "-o", str(made)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            os.replace(made, file)
    except FileNotFoundError as error:
        raise MissingDependency(
            f"There is no C++ compiler {compiler!r}.", "Install g++, or name another one in CXX."
        ) from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().splitlines()
        first = [line for line in said if "error" in line][:1] or said[:1]
        raise MissingDependency(
            f"{compiler} does not build our kernels: {' '.join(first)}"
        ) from error
    except OSError as error:
        raise MissingDependency(f"Cannot write {file}: {error.strerror}.") from error


def norm_act(
    x: Tensor,
    groups: int,
    eps: float,
    weight: Tensor,
    bias: Tensor,
    activation: str = "",
    scale_shift: Tensor | None = None,
    in_parts: bool = False,
) -> Tensor | Split:
    """act(norm(x) * (1 + scale) + shift) in the type of x, or in two parts. [B, C, H, W].

    Args:
        groups: of channels, over the whole map; or `EACH_PIXEL`.
        weight, bias: float32 [C].
        scale_shift: [B, 2C], scale and then shift.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    half = x.dtype == torch.bfloat16
    batch, channels, height, width = x.shape
    out = torch.empty_like(x, dtype=torch.bfloat16 if in_parts or half else torch.float32)
    three = _like(x, 3 * channels) if in_parts else None
    scale, shift = None, None
    if scale_shift is not None:
        scale_shift = scale_shift.float().contiguous()
        scale = scale_shift.data_ptr()
        shift = scale + channels * scale_shift.element_size()
    library().norm_act(
        *(x.data_ptr(), half, batch, height * width, channels, groups, eps),
        *(weight.data_ptr(), bias.data_ptr(), scale, shift, 2 * channels, ACTIVATIONS[activation]),
        *(out.data_ptr(), _address(three), torch.get_num_threads()),
    )
    return out if three is None else Split(out, three)


def split(x: Tensor) -> Split:
    """A float32 map [B, C, H, W] in two parts."""
    x = x.contiguous(memory_format=torch.channels_last)
    channels = x.shape[1]
    found = Split(_like(x, channels), _like(x, 3 * channels))
    library().split(
        *(x.data_ptr(), x.numel() // channels, channels),
        *(found.high.data_ptr(), found.three.data_ptr(), torch.get_num_threads()),
    )
    return found


def join(first: Tensor, rest: Tensor, bias: Tensor, onto: Tensor | None, factor: float) -> Tensor:
    """(onto + first + rest + bias) * factor, float32, of bfloat16 ``first`` and ``rest``."""
    if onto is not None:
        onto = onto.contiguous(memory_format=torch.channels_last)
    channels = first.shape[1]
    out = torch.empty_like(first, dtype=torch.float32)
    library().join(
        *(first.data_ptr(), rest.data_ptr(), bias.data_ptr(), _address(onto), factor),
        *(out.numel() // channels, channels, out.data_ptr(), torch.get_num_threads()),
    )
    return out


TILE = 4
"""Side of the tiles in which `convolve` makes its results."""


def tiles_of(x: Tensor) -> int:
    """How many tiles a map [B, C, H, W] has."""
    return int(x.shape[0]) * -(-int(x.shape[2]) // TILE) * -(-int(x.shape[3]) // TILE)


def convolve(x: Tensor, weight: Tensor, bias: Tensor, onto: Tensor | None, factor: float) -> Tensor:
    """(onto + conv(x) + bias) * factor, in the type of x, by a 3x3 convolution with zeros around x.

    A quarter of the products that it takes written out (Lavin and Gray 2016, F(4x4, 3x3)), in
    float32; 2^-15 of the largest result may be lost.

    Args:
        weight: as `prepared`.
        bias: float32.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    if onto is not None:
        onto = onto.contiguous(memory_format=torch.channels_last)
    (batch, inside, height, width), outside = x.shape, len(bias)
    out = torch.empty(
        (batch, outside, height, width), dtype=x.dtype, memory_format=torch.channels_last
    )
    library().convolve(
        *(x.data_ptr(), weight.data_ptr(), bias.data_ptr(), _address(onto)),
        *(x.dtype == torch.bfloat16, factor, batch, height, width, inside, outside),
        *(out.data_ptr(), torch.get_num_threads()),
    )
    return out


def prepared(weight: Tensor, backwards: bool = False) -> Tensor:
    """G g G^T of the weights [O, C, 3, 3] of a convolution, as `convolve` wants them: in panels of
    so many outputs at a time, [36, panels, C, width]. ``backwards``, of the convolution that makes
    gradients of inputs out of those of results.
    """
    weight = weight.detach().float()
    (outside, inside), first = weight.shape[:2], weight
    strides = list(weight.stride())
    if backwards:
        first = weight[:, :, 2, 2]
        (inside, outside), strides = weight.shape[:2], [strides[k] for k in (1, 0, 2, 3)]
        strides[2:] = [-strides[2], -strides[3]]
    width = library().panel_width()
    out = torch.empty(36, -(-outside // width), inside, width)
    library().prepare(
        *(first.data_ptr(), outside, inside, *strides, out.data_ptr(), torch.get_num_threads())
    )
    return out


def convolve_weights(x: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of the weights of a 3x3 convolution with zeros around x, in tiles.

    Args:
        x: [B, C, H, W].
        gradient: of the results, [B, O, H, W].

    Returns:
        [O, C, 3, 3], float32.
    """
    x, gradient = (one.contiguous(memory_format=torch.channels_last) for one in (x, gradient))
    (batch, inside, height, width), outside = x.shape, gradient.shape[1]
    out = torch.empty((outside, inside, 3, 3), memory_format=torch.channels_last)
    library().convolve_weights(
        *(x.data_ptr(), gradient.data_ptr(), x.dtype == torch.bfloat16, batch, height, width),
        *(inside, outside, out.data_ptr(), torch.get_num_threads()),
    )
    return out


def attention(query: Tensor, keys_values: Tensor, mask: Tensor, heads: int) -> Tensor:
    """softmax(q k / sqrt d) v of every head over the keys that are not masked.

    In float32 or bfloat16, in which sums are float32; see `fast.gains_in_attention` for where.

    Args:
        query: [B, N, C].
        keys_values: [B, M, 2C], keys first.
        mask: bool [B, M], True where a key is seen.
    """
    query, keys_values, mask = query.contiguous(), keys_values.contiguous(), mask.contiguous()
    batch, number, channels = query.shape
    out = torch.empty_like(query)
    library().attention(
        *(query.data_ptr(), keys_values.data_ptr(), mask.data_ptr(), query.dtype == torch.bfloat16),
        *(batch, number, mask.shape[1], heads, channels // heads),
        *(out.data_ptr(), torch.get_num_threads()),
    )
    return out


def attention_gradient(
    query: Tensor, keys_values: Tensor, mask: Tensor, heads: int, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of query and keys_values from that of what `attention` made; float32."""
    query, keys_values, mask = query.contiguous(), keys_values.contiguous(), mask.contiguous()
    gradient = gradient.contiguous()
    batch, number, channels = query.shape
    found = torch.empty_like(query), torch.empty_like(keys_values)
    library().attention_gradient(
        *(one.data_ptr() for one in (query, keys_values, mask, gradient)),
        *(batch, number, mask.shape[1], heads, channels // heads),
        *(found[0].data_ptr(), found[1].data_ptr(), torch.get_num_threads()),
    )
    return found


def _like(x: Tensor, channels: int) -> Tensor:
    """Room for a bfloat16 map of this many channels."""
    return torch.empty(
        (x.shape[0], channels, *x.shape[2:]),
        dtype=torch.bfloat16,
        memory_format=torch.channels_last,
    )


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
