"""Sizes of images: what the API offers and the stages cannot make is cropped from the next size."""

UNIT = 64
"""Sides of images that every cascade can make are multiples of this."""

MAX_SIDE = 16_383
"""Pixels; WebP holds no longer side."""


def next_size(size: tuple[int, int]) -> tuple[int, int]:
    """The smallest size that every cascade can make and that holds this one.

    >>> next_size((1040, 656))
    (1088, 704)
    """
    width, height = (-(-side // UNIT) * UNIT for side in size)
    return width, height


def covering(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest box around the centre of an image that has the shape of another size.

    >>> covering((100, 80), (40, 40))
    (10.0, 0.0, 90.0, 80.0)
    """
    (width, height), (wide, high) = size, wanted
    scale = min(width / wide, height / high)
    left, top = (width - wide * scale) / 2, (height - high * scale) / 2
    return left, top, width - left, height - top
