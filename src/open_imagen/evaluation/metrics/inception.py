"""The Inception of FID: the network of 2015 that all published numbers look through.

Parameter names are those of the file that the community passes around
(`pt_inception-2015-12-05-6726825d.pth`), so that it loads as it is. It differs from the textbook
Inception v3 in three places: average pools do not count the border's zeros, the last block pools by
the maximum, and its classifier has 1,008 outputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 299
WIDTHS = {"64": 64, "192": 192, "768": 768, "2048": 2048}
"""Layers that features can be taken from, by the names they go by, and their widths."""


class Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inside: int, outside: int, kernel: int | tuple[int, int], **how: object):
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, bias=False, **how)  # type: ignore[arg-type]
        self.bn = nn.BatchNorm2d(outside, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Convolution, batch norm, ReLU."""
        return F.relu(self.bn(self.conv(x)))


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    """35x35."""

    def __init__(self, inside: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(inside, 64, 1)
        self.branch5x5_1 = Conv(inside, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Conv(inside, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(inside, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_average(x))], 1)


class BlockB(nn.Module):
    """35x35 -> 17x17."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(inside, 384, 3, stride=2)
        self.branch3x3dbl_1 = Conv(inside, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], 1)


class BlockC(nn.Module):
    """17x17, its kernels of seven in two strokes."""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        flat: dict[str, object] = {"kernel": (1, 7), "padding": (0, 3)}
        tall: dict[str, object] = {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = Conv(inside, 192, 1)
        self.branch7x7_1 = Conv(inside, width, 1)
        self.branch7x7_2 = Conv(width, width, **flat)  # type: ignore[arg-type]
        self.branch7x7_3 = Conv(width, 192, **tall)  # type: ignore[arg-type]
        self.branch7x7dbl_1 = Conv(inside, width, 1)
        self.branch7x7dbl_2 = Conv(width, width, **tall)  # type: ignore[arg-type]
        self.branch7x7dbl_3 = Conv(width, width, **flat)  # type: ignore[arg-type]
        self.branch7x7dbl_4 = Conv(width, width, **tall)  # type: ignore[arg-type]
        self.branch7x7dbl_5 = Conv(width, 192, **flat)  # type: ignore[arg-type]
        self.branch_pool = Conv(inside, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average(x))], 1)


class BlockD(nn.Module):
    """17x17 -> 8x8."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(inside, 192, 1)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Conv(inside, 192, 1)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([three, self.branch7x7x3_4(seven), F.max_pool2d(x, 3, stride=2)], 1)


class BlockE(nn.Module):
    """8x8; the last one of the network pools by the maximum."""

    def __init__(self, inside: int, last: bool) -> None:
        super().__init__()
        self.last = last
        self.branch1x1 = Conv(inside, 320, 1)
        self.branch3x3_1 = Conv(inside, 384, 1)
        self.branch3x3_2a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = Conv(inside, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Conv(inside, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.last else _average(x)
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(pooled),
        ]
        return torch.cat(branches, 1)


class Inception(nn.Module):
    """Pictures of 299 pixels, prepared as (x - 128) / 128 -> features [B, width of the layer]."""

    def __init__(self, layer: str = "2048") -> None:
        super().__init__()
        self.layer, self.width = layer, WIDTHS[layer]
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, 128)
        self.Mixed_6c = BlockC(768, 160)
        self.Mixed_6d = BlockC(768, 160)
        self.Mixed_6e = BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, last=False)
        self.Mixed_7c = BlockE(2048, last=True)
        self.fc = nn.Linear(2048, 1008)
        """Part of the published file; features do not pass through it."""
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, 299, 299] -> the features of the chosen layer, [B, D]."""
        for name, parts in STAGES.items():
            for part in parts:
                x = getattr(self, part)(x)
            if name in ("64", "192"):
                x = F.max_pool2d(x, 3, stride=2)
            if name == self.layer:
                break
        return x.mean((2, 3))


STAGES = {
    "64": ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"),
    "192": ("Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    "768": ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", *(f"Mixed_6{k}" for k in "bcde")),
    "2048": ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
}
"""The parts walked through up to each layer."""
