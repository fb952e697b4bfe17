"""Captions of scenes as people write them: every stated fact of the scene, in many wordings."""

import random

from open_imagen.worlds.shapes.scenes import UNSEEN_PAIRS
from open_imagen.worlds.things import wordings
from open_imagen.worlds.things.catalog import COLOR_WORDS, Catalog
from open_imagen.worlds.things.grammar import (
    NAMES,
    WITH_THE,
    article,
    plural,
    takes_article,
)
from open_imagen.worlds.things.layout import Layout
from open_imagen.worlds.things.scenes import SHAPE, SIGN, Item, Scene

TAG_SHARE, NOISE, ADJECTIVE = 0.35, 0.05, 0.4
SHAPE_PLURALS = {"cross": "crosses"}
ADJECTIVES = {"man": "male", "woman": "female"}
PEOPLE = {
    ("person", "man"): "man",
    ("person", "woman"): "woman",
    ("people", "man"): "men",
    ("people", "woman"): "women",
    ("merperson", "man"): "merman",
    ("merperson", "woman"): "mermaid",
    ("merpeople", "man"): "mermen",
    ("merpeople", "woman"): "mermaids",
}
"""A word of a label and a gender -> the word that says both."""


def caption(
    scene: Scene, layout: Layout, rng: random.Random, catalog: Catalog, rich: bool = True
) -> str:
    """One way of saying what a scene states.

    Args:
        rich: may also say where a single thing is, and that nothing is behind.
    """
    style = _common_style(scene)
    framed = style and rng.random() >= ADJECTIVE
    plain = rng.random() < NOISE  # a missing article
    say = Speaker(rng, catalog, adjectives=not framed, bare=plain)
    text = _objects(scene, say)
    if rich and _may_place(scene) and rng.random() < 0.35:
        text = f"{text} {where(layout.objects[0].x, layout.objects[0].y)}"
    if framed:
        frames = wordings.STYLE_FRAMES[style]
        if scene.relation:  # a sentence: the style is said after it
            frames = tuple(frame for frame in frames if frame.startswith("{x},"))
        text = rng.choice(frames).format(x=text)
    elif rng.random() < 0.12 and scene.items[0].thing != SIGN and not scene.relation:
        text = rng.choice(wordings.OPENINGS) + text
    text = with_ground(scene.ground, text, rng, rich)
    return with_noise(text, rng, request=not scene.relation)


class Speaker:
    """Names objects: label or tag, adjectives, number, article."""

    def __init__(
        self, rng: random.Random, catalog: Catalog, adjectives: bool = True, bare: bool = False
    ) -> None:
        self.rng, self.catalog, self.adjectives, self.bare = rng, catalog, adjectives, bare

    def one(self, item: Item) -> str:
        """An object with its article: "a small flat blue cat", "the statue of liberty"."""
        if item.thing == SIGN:
            return self.sign(item.label)
        phrase, label = self._phrase(item, counted=False)
        adjectives = phrase != label
        if label in WITH_THE:
            return f"the {phrase}"
        if label in NAMES or not takes_article(label):
            return phrase
        roll = self.rng.random()
        if self.bare or roll < 0.08:
            return phrase
        if roll < 0.12:
            return f"one {phrase}"
        if roll < 0.16 and not adjectives:
            return f"the {phrase}"
        return f"{article(phrase)} {phrase}"

    def several(self, item: Item, count: int) -> str:
        """A number of objects: "three small cats", "3 slices of pizza"."""
        phrase, _ = self._phrase(item, counted=True)
        digits = self.rng.random() < 0.25
        return f"{count if digits else wordings.NUMBERS[count - 1]} {phrase}"

    def sign(self, word: str) -> str:
        """A sign and its quoted word, mostly in capitals as it is drawn."""
        written = self.rng.choices((word, word.lower(), word.title()), (70, 15, 15))[0]
        quoted = self.rng.choice(wordings.QUOTES).format(written)
        return self.rng.choice(wordings.SIGNS).format(word=quoted)

    def _phrase(self, item: Item, counted: bool) -> tuple[str, str]:
        """Adjectives and name, and the name alone."""
        name = self._mention(item, counted)
        before, after = "", ""
        if item.gender or item.tone:
            name, before, after = self._person(item, name, counted)
        color = "grey" if item.color == "gray" and self.rng.random() < 0.3 else item.color
        style = item.style if self.adjectives else ""
        words = [
            self.rng.choice(wordings.SIZE_WORDS[item.size]) if item.size else "",
            self.rng.choice(wordings.STYLE_ADJECTIVES[style]) if style else "",
            color,
            before,
            name,
            after,
        ]
        return " ".join(word for word in words if word), name

    def _mention(self, item: Item, counted: bool) -> str:
        if item.thing == SHAPE:
            several = SHAPE_PLURALS.get(item.label, item.label + "s")
            return several if counted else item.label
        name = item.label
        tags = self.catalog.tags(item.thing)
        if tags and self.rng.random() < TAG_SHARE:
            tag = self.rng.choice(tags)
            # "a yellow life ring" would say a held-out pair of the shapes world.
            named = set(tag.split())
            unseen = any((item.color, word) in UNSEEN_PAIRS for word in named)
            twice = item.color and named & COLOR_WORDS
            if not unseen and not twice and (not counted or plural(tag)):
                name = tag
        return plural(name) if counted else name

    def _person(self, item: Item, name: str, counted: bool) -> tuple[str, str, str]:
        """The name, and words before and after it, that tell gender and skin tone."""
        gender = item.gender
        named = [PEOPLE.get((word, gender), word) for word in name.split()]
        if " ".join(named) != name:
            name, gender = " ".join(named), ""
        elif {"man", "woman", "men", "women", "boy", "girl"} & set(named):
            gender = ""
        if gender and (counted or self.rng.random() < 0.3):
            gender = ADJECTIVES[gender]
        if not item.tone:
            return name, gender, ""
        if self.rng.random() < 0.5:
            return name, " ".join(word for word in (f"{item.tone}-skinned", gender) if word), ""
        tone = self.rng.choice(("skin", "skin tone"))
        return name, gender, f"with {'a ' if tone == 'skin tone' else ''}{item.tone} {tone}"


def _objects(scene: Scene, say: Speaker) -> str:
    rng = say.rng
    if len(scene.items) == 1:
        item = scene.items[0]
        return say.several(item, scene.count) if scene.count > 1 else say.one(item)
    names = [say.one(item) for item in scene.items]
    if scene.relation:
        return rng.choice(wordings.WORDINGS).say(scene.relation, *names)
    rng.shuffle(names)
    if len(names) == 3:
        return rng.choice(wordings.TRIPLES).format(a=names[0], b=names[1], c=names[2])
    return rng.choice(wordings.PAIRS).format(a=names[0], b=names[1])


def _common_style(scene: Scene) -> str:
    styles = {item.style for item in scene.items if item.thing >= 0}
    alone = len(styles) == 1 and all(item.thing >= 0 for item in scene.items)
    return styles.pop() if alone else ""


def _may_place(scene: Scene) -> bool:
    return len(scene.items) == 1 and scene.count == 1 and scene.items[0].size == "small"


def where(x: float, y: float) -> str:
    """In which ninth of the picture a point is: "in the top left corner", "on the right"."""
    return wordings.CORNERS[min(int(3 * y), 2)][min(int(3 * x), 2)]


def with_ground(ground: str, text: str, rng: random.Random, rich: bool) -> str:
    """A caption with the ground its scene has; nothing behind is said sometimes."""
    if " and " in ground:
        one, two = ground.split(" and ")
        return rng.choice(wordings.TWO_TONES).format(x=text, one=one, two=two)
    if ground:
        template = rng.choice(wordings.GROUNDS).format(x=text, ground=ground)
        return template.replace(" a orange", " an orange")
    if rng.random() < (0.3 if rich else 0.04):
        return rng.choice(wordings.NO_GROUND).format(x=text)
    return text


def with_noise(text: str, rng: random.Random, request: bool = True) -> str:
    """At a low rate, what people do when they type: capitals, a full stop, a request."""
    if request and rng.random() < NOISE:
        text = rng.choice(wordings.REQUESTS) + text
    if rng.random() < NOISE:
        text = text[0].upper() + text[1:]
    if rng.random() < NOISE:
        text += "."
    return text


def with_gender(label: str, gender: str) -> str:
    """A label of people that tells a gender, as captions do.

    >>> with_gender("person swimming", "woman"), with_gender("cook", "man")
    ('woman swimming', 'man cook')
    """
    if not gender:
        return label
    named = " ".join(PEOPLE.get((word, gender), word) for word in label.split())
    return named if named != label else f"{gender} {label}"
