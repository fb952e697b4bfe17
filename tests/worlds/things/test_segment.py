"""Pictures taken apart: grounds, patches, crops."""

import pytest
import torch

from open_imagen.worlds.things.scenes import COLORS
from open_imagen.worlds.things.segment import CROP, DUST, GRAY, Patch, crops, find_patches, split
from things_judging import picture, placed

LEFT, RIGHT = placed("cat", 0.25, 0.5, 0.2), placed("dog", 0.75, 0.5, 0.2)


def shade(name):
    return torch.tensor(COLORS[name]) / 255


def test_a_transparent_ground_is_told_from_a_black_one():
    clear, black = (
        split(picture(LEFT)).grounds[0],
        split(picture(LEFT, ground=("black",))).grounds[0],
    )
    assert (clear.transparent, clear.colors) == (True, ())
    assert not black.transparent
    assert torch.allclose(torch.tensor(black.colors[0]), shade("black"), atol=0.01)


def test_a_picture_without_alpha_has_an_opaque_ground():
    rgb = picture(LEFT, ground=("white",))[:, :3]
    parts = split(rgb)
    assert torch.allclose(torch.tensor(parts.grounds[0].colors[0]), shade("white"), atol=0.01)
    assert len(parts.patches[0]) == 1


@pytest.mark.parametrize("turned", [False, True])
def test_two_tones_are_found_in_order_with_nothing_at_their_seam(turned):
    image = picture(LEFT._replace(x=0.2, radius=0.12), ground=("red", "blue"))
    if turned:
        image = image.transpose(2, 3)
    parts = split(image)
    first, second = map(torch.tensor, parts.grounds[0].colors)
    assert torch.allclose(first, shade("red"), atol=0.01)
    assert torch.allclose(second, shade("blue"), atol=0.01)
    assert len(parts.patches[0]) == 1


def test_a_soft_seam_is_no_object():
    image = picture(LEFT._replace(x=0.2, radius=0.12), ground=("white", "black")).float()
    soft = torch.nn.functional.avg_pool2d(
        torch.nn.functional.pad(image, (1, 1, 0, 0), mode="replicate"), (1, 3), 1
    )
    assert len(split(soft.to(torch.uint8)).patches[0]) == 1


@pytest.mark.parametrize("ground", [(), ("white",), ("blue", "yellow")])
def test_patches_lie_where_objects_do(ground):
    [found] = split(picture(LEFT, RIGHT, ground=ground)).patches
    assert len(found) == 2
    for patch, x in zip(sorted(found, key=lambda one: one.left), (0.25, 0.75), strict=True):
        assert patch.center == pytest.approx((x, 0.5), abs=0.02)
        assert patch.side == pytest.approx(0.4, abs=0.04)


def test_a_gap_of_little_more_than_a_pixel_keeps_objects_apart():
    # Between two pixels, so that none of them is empty.
    near = [placed("cat", 0.3 + 0.5 / 64, 0.5, 0.15), placed("dog", 0.62 + 0.5 / 64, 0.5, 0.15)]
    assert len(split(picture(*near)).patches[0]) == 2
    assert len(split(picture(*near, ground=("white",))).patches[0]) == 2


def test_patches_whose_boxes_overlap_are_one():
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[0, 10:50, 10:14] = masks[0, 46:50, 10:50] = True  # an L
    masks[0, 20:30, 20:30] = True  # in its corner
    masks[0, 5:8, 55:60] = True
    _, [found] = find_patches(masks.numpy())
    assert sorted(len(patch.members) for patch in found) == [1, 2]
    _, [apart] = find_patches(masks.numpy(), merge=False)
    assert len(apart) == 3


def test_connected_patches_are_those_of_a_flood():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(4, 32, 32, generator=generator) < 0.4
    labels, _ = find_patches(masks.numpy(), merge=False)
    for mask, label in zip(masks, torch.from_numpy(labels), strict=True):
        seen = torch.zeros_like(mask)
        for y, x in mask.nonzero().tolist():
            if seen[y, x]:
                continue
            flood = torch.zeros_like(mask)
            flood[y, x] = True
            while True:
                wider = torch.nn.functional.max_pool2d(flood[None, None].float(), 3, 1, 1)[0, 0]
                wider = (wider > 0) & mask
                if torch.equal(wider, flood):
                    break
                flood = wider
            seen |= flood
            names = label[flood].unique()
            assert len(names) == 1
            large = int(flood.sum()) >= DUST * mask.numel()
            assert bool(names[0]) == large
            assert not large or int((label == names[0]).sum()) == int(flood.sum())


def test_dust_is_ignored():
    image = picture(LEFT)
    image[0, :, 60:62, 60:62] = 255
    assert len(split(image).patches[0]) == 1
    image[0, :, 58:62, 58:62] = 255
    assert len(split(image).patches[0]) == 2


def test_a_crop_shows_its_object_alone_and_centred():
    parts = split(picture(LEFT, RIGHT))
    patch = max(parts.patches[0], key=lambda one: one.right)
    [crop] = crops(parts, [0], [patch])
    assert crop.shape == (4, CROP, CROP)
    assert torch.allclose(crop[:3, 0], torch.full((3, CROP), GRAY), atol=0.01)
    cover = crop[3] > 0.5
    rows = cover.any(1).nonzero().flatten()
    assert int(rows[0] + rows[-1]) == pytest.approx(CROP - 1, abs=2)
    assert 0.6 < float(cover.float().mean()) < 0.8
    wide = Patch(0.0, 0.0, 1.0, 1.0, 1.0, patch.members)
    [beside] = crops(parts, [0], [wide])
    assert float(beside[3, :, : CROP // 2 - 2].max()) < 0.1  # the other object is left out


def test_larger_pictures_give_the_same_patches():
    [small] = split(picture(LEFT, RIGHT)).patches
    [large] = split(picture(LEFT, RIGHT, size=256)).patches
    assert [one.center for one in large] == [pytest.approx(one.center, abs=0.03) for one in small]
