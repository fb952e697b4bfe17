"""English of labels: plurals, articles, and the labels that neither are counted nor take one."""

from functools import lru_cache

IRREGULAR = {
    "mouse": "mice",
    "man": "men",
    "woman": "women",
    "person": "people",
    "child": "children",
    "goose": "geese",
    "ox": "oxen",
    "tooth": "teeth",
    "foot": "feet",
    "leaf": "leaves",
    "loaf": "loaves",
    "wolf": "wolves",
    "knife": "knives",
    "scarf": "scarves",
    "shelf": "shelves",
    "sheaf": "sheaves",
    "elf": "elves",
    "wife": "wives",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "mango": "mangoes",
    "volcano": "volcanoes",
    "mosquito": "mosquitoes",
    "tornado": "tornadoes",
    "hero": "heroes",
    "superhero": "superheroes",
    "cactus": "cacti",
    "radius": "radii",
    "quiz": "quizzes",
    "ewe": "ewes",
    "waltz": "waltzes",
    "policeman": "policemen",
    "fireman": "firemen",
    "snowman": "snowmen",
    "dna": "dna",
}
UNCHANGED = frozenset(
    "sheep fish deer bison moose shrimp squid salmon aircraft spacecraft sushi dango oden blowfish "
    "jellyfish offspring swine water-buffalo".split()
)
"""Plural and singular alike."""
UNCOUNTED_WORDS = frozenset(
    "rice bread flatbread bacon butter salt popcorn broccoli garlic spaghetti corn food milk "
    "luggage clothing money ice fog foggy rain lightning cooking camping fire wood snow water "
    "wind-chimes soap hair weather grass blood coral traffic baggage trash honey sake juice wine "
    "beer coffee tea liquid jewelry ginger oil seaweed hay herbs sand mate fondue construction "
    "homework makeup headwear dna yarn sunrise sunset bowling music sashimi".split()
)
"""Head words of labels of which nobody says two."""
PLURAL_WORDS = frozenset(
    "glasses sunglasses goggles scissors pants jeans shorts chopsticks fries trousers pliers "
    "binoculars headphones grapes cherries blueberries peanuts beans pancakes noodles books "
    "chains bubbles skis people dancers hands masks houses springs dividers wrestlers clothes "
    "tabs prints eyes lips ears footprints mountains crossed-swords swords sparkles gloves socks "
    "fireworks bricks mugs cards notes decorations dolls chimes knobs sandals bones berries "
    "athletics gymnastics paperclips beads men women twins ears streamers slippers stars eggs "
    "buildings stairs feet legs claws tentacles flowers leaves groceries arms".split()
)
"""Words that are plural already."""
WITH_THE = frozenset({"statue of liberty", "milky way", "kaaba", "tokyo tower", "world map"})
NAMES = frozenset({"mount fuji", "santa claus", "mrs. claus", "mx claus", "tokyo tower"})
"""Labels without any article."""
JOINTS = (
    *("of", "in", "with", "on", "at", "without", "behind", "showing", "for", "to", "over"),
    *("facing", "around", "from", "under", "playing", "holding", "wearing", "feeding", "having"),
    *("hanging", "fluttering", "increasing", "decreasing", "getting", "doing", "and", "not"),
    *("done", "tilted", "departure", "arrival", "running", "walking", "kneeling", "standing"),
    *("rowing", "surfing", "swimming", "bouncing", "lifting", "biking", "juggling", "cartwheeling"),
    *("bowing", "shrugging", "facepalming", "frowning", "pouting", "gesturing", "tipping"),
    *("raising", "taking", "climbing", "golfing", "curled", "pointing", "buttoned", "detective"),
)
"""Words before which the head of a label ends: "slice of pizza", "man in tuxedo"."""


@lru_cache(maxsize=None)
def plural(label: str) -> str:
    """The plural of a label ("slices of pizza", "men in tuxedos"), or "" where none is said."""
    words = label.split()
    if label in NAMES or label in WITH_THE:
        return ""
    end = next((k for k, word in enumerate(words) if k and word in JOINTS), len(words))
    head = words[end - 1]
    if head in PLURAL_WORDS or head in UNCOUNTED_WORDS or head.endswith("ing"):
        return ""
    if end < len(words) and words[end] == "and":
        return ""  # "fork and knife": one picture of two things
    rest = words[end:]
    if rest[:1] == ["in"] and len(rest) == 2 and rest[1] == "tuxedo":
        rest = ["in", _plural_word(rest[1])]
    return " ".join([*words[: end - 1], _plural_word(head), *rest])


def _plural_word(word: str) -> str:
    if word in UNCHANGED:
        return word
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def is_plural(label: str) -> bool:
    """Whether a label, as it stands, names several ("grapes") or a pair ("glasses")."""
    words = label.split()
    end = next((k for k, word in enumerate(words) if k and word in JOINTS), len(words))
    return words[end - 1] in PLURAL_WORDS


def takes_article(label: str) -> bool:
    """Whether people say "a" before a label."""
    words = label.split()
    end = next((k for k, word in enumerate(words) if k and word in JOINTS), len(words))
    head = words[end - 1]
    return not (
        label in NAMES or label in WITH_THE or head in PLURAL_WORDS or head in UNCOUNTED_WORDS
    )


def article(phrase: str) -> str:
    """ "a" or "an", by the sound that a phrase begins with."""
    word = phrase.lower().split()[0].split("-")[0]
    if word.startswith(("hour", "honest", "honor", "heir")):
        return "an"
    if word in {"x", "sos", "fbi", "mri"}:
        return "an"
    if word.startswith(("uni", "use", "usu", "eu", "ewe", "one", "once", "uk", "ufo", "ute", "uti")):
        return "an" if word.startswith(("unin", "unim")) else "a"
    return "an" if word[0] in "aeiou" else "a"


def with_article(phrase: str) -> str:
    """A phrase after its indefinite article."""
    return f"{article(phrase)} {phrase}"
