"""The judge sees exact scenes as they are, and each rule of the suite refuses what it forbids."""

import pytest
import torch

from open_imagen.worlds.things.judge import Judge, Sure, transparency
from open_imagen.worlds.things.suite import ExpectedScene, Truth
from open_imagen.worlds.things.verdict import judge
from things_judging import Nearest, make_judge, picture, placed

JUDGE = make_judge()
CAT, DOG = ExpectedScene(("cat",)), ExpectedScene(("dog",))
ONE = placed("cat")
PAIR = placed("cat", 0.25, 0.5, 0.2), placed("dog", 0.75, 0.5, 0.2)
THREE = tuple(placed("cat", x, y, 0.12) for x, y in ((0.2, 0.2), (0.7, 0.3), (0.4, 0.75)))


def right(truth, *objects, ground=()):
    [seen] = JUDGE.look(picture(*objects, ground=ground))
    return judge(truth, seen).right


def test_it_sees_things_styles_colors_and_places():
    blue = placed("teddy bear", 0.7, 0.3, 0.2, style="3d", color="blue")
    [seen] = JUDGE.look(picture(placed("cat", 0.2, 0.7, 0.15), blue, ground=("white",)))
    large, small = sorted(seen.objects, key=lambda one: -one.side)
    assert (large.name, large.style, large.color) == ("teddy bear", "3d", "blue")
    assert (small.name, small.style, small.color) == ("cat", "drawn", "")
    assert (large.x, large.y) == pytest.approx((0.7, 0.3), abs=0.02)
    assert small.side == pytest.approx(0.3, abs=0.04)
    assert seen.ground == "white"


def test_shapes_have_names_of_their_own():
    [seen] = JUDGE.look(picture(placed("shape star", color="red")))
    assert seen.objects[0].name == "shape star"
    assert "red" in {seen.objects[0].color, *seen.objects[0].also}


CASES = {
    "a thing": (Truth((CAT,)), (ONE,), ()),
    "no other thing": (Truth((CAT,)), (placed("dog"),), None),
    "nothing beside it": (Truth((CAT,)), PAIR, None),
    "any of its names": (Truth((ExpectedScene(("dog", "cat")),)), (ONE,), ()),
    "three": (Truth((CAT._replace(number=3),)), THREE, ()),
    "not two of three": (Truth((CAT._replace(number=3),)), THREE[:2], None),
    "not three of two": (Truth((CAT._replace(number=2),)), THREE, None),
    "not another among three": (
        Truth((CAT._replace(number=3),)),
        (*THREE[:2], placed("dog", 0.4, 0.75, 0.12)),
        None,
    ),
    "left of": (Truth((CAT, DOG), "left of"), PAIR, ()),
    "not right of": (Truth((CAT, DOG), "right of"), PAIR, None),
    "not above": (Truth((CAT, DOG), "above"), PAIR, None),
    "the other way round": (Truth((DOG, CAT), "right of"), PAIR, ()),
    "a color": (Truth((CAT._replace(color="blue"),)), (placed("cat", color="blue"),), ()),
    "not another color": (
        Truth((CAT._replace(color="blue"),)),
        (placed("cat", color="red"),),
        None,
    ),
    "not as drawn": (Truth((CAT._replace(color="blue"),)), (ONE,), None),
    "a style": (Truth((CAT._replace(style="flat"),)), (placed("cat", style="flat"),), ()),
    "not another style": (Truth((CAT._replace(style="flat"),)), (ONE,), None),
    "small": (Truth((CAT._replace(size="small"),)), (ONE._replace(radius=0.14),), ()),
    "not middling for small": (Truth((CAT._replace(size="small"),)), (ONE,), None),
    "large": (Truth((CAT._replace(size="large"),)), (ONE._replace(radius=0.44),), ()),
    "not middling for large": (Truth((CAT._replace(size="large"),)), (ONE,), None),
}


@pytest.mark.parametrize("truth, objects, holds", CASES.values(), ids=CASES)
def test_each_rule_accepts_what_is_right_and_nothing_else(truth, objects, holds):
    assert right(truth, *objects) == (holds is not None)


@pytest.mark.parametrize(
    "asked, drawn, holds",
    [
        ("", (), True),
        ("", ("white",), False),
        ("red", ("red",), True),
        ("red", ("gray",), False),
        ("red", (), False),
        ("blue and yellow", ("blue", "yellow"), True),
        ("blue and yellow", ("yellow", "blue"), True),
        ("blue and yellow", ("blue", "blue"), False),
        ("blue", ("blue", "yellow"), False),
    ],
)
def test_the_ground_is_the_one_asked_for(asked, drawn, holds):
    assert right(Truth((CAT,), ground=asked), ONE, ground=drawn) == holds


def test_a_ground_of_no_named_color_is_unknown():
    image = picture(ONE, ground=("white",))
    image[:, :3] = torch.where(image[:, :3] == 250, 200, image[:, :3])
    image[:, 0] = torch.where(image[:, 0] == 200, 90, image[:, 0])
    assert JUDGE.look(image)[0].ground == "?"


def test_two_of_one_name_are_told_apart_by_color():
    truth = Truth((CAT._replace(color="blue"), CAT._replace(color="red")), "left of")
    blue, red = (placed("cat", x, 0.5, 0.2, color=c) for x, c in ((0.25, "blue"), (0.75, "red")))
    assert right(truth, blue, red)
    assert right(truth, red, blue)
    assert not right(truth, red._replace(x=0.25), blue._replace(x=0.75))


def test_what_is_unknown_counts_as_wrong():
    [seen] = JUDGE.look(picture(placed("cat")).rot90(1, (2, 3)))
    assert [one.name for one in seen.objects] == [""]
    assert not judge(Truth((CAT,)), seen).right
    assert not judge(Truth((ExpectedScene(("",)),)), seen._replace(objects=())).right


def test_an_unknown_object_beside_the_right_one_is_one_too_many():
    image = picture(placed("cat", 0.3, 0.5, 0.2))
    image[0, :, 20:40, 44:60] = torch.randint(0, 2, (4, 20, 16)).mul(255).to(torch.uint8)
    image[0, 3, 20:40, 44:60] = 255
    [seen] = JUDGE.look(image)
    assert sorted(one.name for one in seen.objects) == ["", "cat"]
    assert not judge(Truth((CAT,)), seen).right


def test_probability_and_margin_both_count():
    eye = Judge(Nearest(), Sure(probability=0.5, margin=0.2))
    scores = torch.zeros(eye.labels.none + 1)
    for values, known in (((0.6, 0.1), True), ((0.45, 0.1), False), ((0.55, 0.4), False)):
        scores[:2] = torch.tensor(values)
        assert eye.known(scores) == known
    scores[:2] = 0
    scores[eye.labels.none] = 0.9
    assert not eye.known(scores)


def test_parts_that_lie_apart_are_one_thing_and_things_are_not():
    [seen] = JUDGE.look(picture(placed("glasses", 0.5, 0.5, 0.14)))
    assert [one.name for one in seen.objects] == ["glasses"]
    close = placed("cat", 0.3, 0.5, 0.15), placed("cat", 0.63, 0.5, 0.15)
    [seen] = JUDGE.look(picture(*close))
    assert [one.name for one in seen.objects] == ["cat", "cat"]


def test_things_that_touch_are_cut_apart():
    touching = picture(placed("cat", 0.3, 0.4, 0.15), placed("dog", 0.65, 0.5, 0.15))
    touching[0, :, 28:31, 28:34] = 255  # a thin bridge
    [seen] = JUDGE.look(touching)
    assert sorted(one.name for one in seen.objects) == ["cat", "dog"]
    merged = picture(placed("cat", 0.3, 0.5, 0.15), placed("dog", 0.6, 0.5, 0.15))
    [seen] = JUDGE.look(merged)
    assert [one.name for one in seen.objects] == [""]


@pytest.mark.parametrize("high, wide", [(2, 40), (40, 2), (3, 3), (9, 40)])
def test_thin_and_tiny_patches_are_unknown_and_nothing_worse(high, wide):
    image = torch.zeros(1, 4, 64, 64, dtype=torch.uint8)
    image[0, :, 10 : 10 + high, 10 : 10 + wide] = 255
    [seen] = JUDGE.look(image)
    assert [one.name for one in seen.objects] == [""]


CLEAR = Truth((CAT,), ground="", clear=True)


def clear(image):
    return judge(CLEAR, JUDGE.look(image)[0], clear=transparency(image[0])).right


def test_a_clear_ground_with_sharp_edges_is_right():
    assert clear(picture(ONE, size=256))
    measured = transparency(picture(ONE, size=256)[0])
    assert measured.edge == pytest.approx(0.8, abs=0.3)
    assert measured.clear == 1


def test_a_veil_soft_edges_and_a_colored_ground_are_wrong():
    exact = picture(ONE, size=256)
    veiled = exact.clone()
    veiled[:, 3] = veiled[:, 3].clamp(min=8)
    assert not clear(veiled)
    assert transparency(veiled[0]).clear == 0
    soft = torch.nn.functional.avg_pool2d(exact.float(), 5, 1, 2).to(torch.uint8)
    assert transparency(soft[0]).edge > 1.5
    assert not clear(soft)
    assert not clear(picture(ONE, ground=("white",), size=256))
    assert not clear(torch.zeros(1, 4, 64, 64, dtype=torch.uint8))
