"""What names.py changes of CLDR's list, each with its reason: merged, renamed and left out."""

MERGED: dict[str, tuple[tuple[str, ...], str]] = {
    "globe": (
        ("globe showing europe-africa", "globe showing americas", "globe showing asia-australia"),
        "one globe, turned",
    ),
    "magnifying glass": (
        ("magnifying glass tilted left", "magnifying glass tilted right"),
        "mirror images",
    ),
    "mailbox": (
        (
            "closed mailbox with raised flag",
            "closed mailbox with lowered flag",
            "open mailbox with raised flag",
            "open mailbox with lowered flag",
        ),
        "only flag and door differ",
    ),
    "hourglass": (("hourglass done", "hourglass not done"), "only the sand differs"),
    "speaker": (
        ("speaker low volume", "speaker medium volume", "speaker high volume"),
        "only the number of waves differs",
    ),
    "sun behind cloud": (
        ("sun behind cloud", "sun behind small cloud", "sun behind large cloud"),
        "only the size of the cloud differs",
    ),
    "half moon": (("first quarter moon", "last quarter moon"), "mirror images"),
    "gibbous moon": (("waxing gibbous moon", "waning gibbous moon"), "mirror images"),
    "crescent moon": (
        ("crescent moon", "waxing crescent moon", "waning crescent moon"),
        "mirror images; nobody names the three apart",
    ),
    "crescent moon face": (
        ("first quarter moon face", "last quarter moon face"),
        "mirror images, which CLDR calls quarters and all sets draw as crescents",
    ),
    "book": (
        ("closed book", "green book", "blue book", "orange book"),
        "one drawing in four colours, which captions name by recolouring",
    ),
    "banknote": (
        ("yen banknote", "dollar banknote", "euro banknote", "pound banknote"),
        "only colour and a small sign differ",
    ),
    "chart increasing": (
        ("chart increasing", "chart increasing with yen"),
        "only a small sign differs",
    ),
    "calendar": (("calendar", "tear-off calendar"), "drawn alike"),
    "bus": (("bus", "oncoming bus"), "the same thing from the side and from the front"),
    "taxi": (("taxi", "oncoming taxi"), "the same thing from the side and from the front"),
    "police car": (
        ("police car", "oncoming police car"),
        "the same thing from the side and from the front",
    ),
    "car": (
        ("automobile", "oncoming automobile"),
        "the same thing from the side and from the front",
    ),
    "hand pointing sideways": (
        ("backhand index pointing left", "backhand index pointing right"),
        "mirror images",
    ),
    "hand reaching sideways": (("leftwards hand", "rightwards hand"), "mirror images"),
    "pushing hand": (("leftwards pushing hand", "rightwards pushing hand"), "mirror images"),
    "sideways fist": (("left-facing fist", "right-facing fist"), "mirror images"),
    "speech bubble": (("speech balloon", "left speech bubble"), "drawn alike"),
    "medal": (
        ("1st place medal", "2nd place medal", "3rd place medal", "sports medal"),
        "only number and metal differ",
    ),
    "raised hand": (("raised hand", "raised back of hand"), "drawn alike"),
    "post office": (("post office", "japanese post office"), "drawn alike; only the sign differs"),
    "new moon": (("new moon", "new moon face"), "the face hardly shows"),
    "letter tray": (("inbox tray", "outbox tray"), "only the arrow's direction differs"),
    "notebook": (("notebook", "notebook with decorative cover"), "drawn alike"),
    "astonished face": (
        ("astonished face", "hushed face", "face with open mouth"),
        "only the eyebrows differ",
    ),
    "anguished face": (
        ("anguished face", "frowning face with open mouth"),
        "only the eyebrows differ",
    ),
    "confused face": (
        ("confused face", "face with diagonal mouth"),
        "only the mouth's slant differs",
    ),
    "frowning face": (("frowning face", "slightly frowning face"), "only the mouth's size differs"),
    "kissing face": (
        ("kissing face", "kissing face with closed eyes", "kissing face with smiling eyes"),
        "only the eyes differ",
    ),
    "grinning face": (
        ("grinning face", "grinning face with big eyes", "grinning face with smiling eyes"),
        "only the eyes differ",
    ),
    "smiling face": (("smiling face", "smiling face with smiling eyes"), "only the cheeks differ"),
    "confounded face": (("confounded face", "persevering face"), "only the mouth's shape differs"),
    "disappointed face": (("disappointed face", "pensive face"), "only the eyebrows differ"),
    "tired face": (("tired face", "weary face"), "only the eyes differ"),
}
"""New label -> CLDR labels (lower case) whose pictures it takes, and why."""

RENAMED: dict[str, str] = {
    "right anger bubble": "anger bubble",
    "backhand index pointing up": "back of a hand pointing up",
    "backhand index pointing down": "hand pointing down",
    "index pointing up": "hand pointing up",
    "index pointing at the viewer": "hand pointing at the viewer",
    "locked": "closed padlock",
    "unlocked": "open padlock",
    "locked with pen": "padlock with pen",
    "locked with key": "padlock with key",
    "foggy": "foggy bridge",
    "camping": "campsite",
    "cooking": "fried egg in a pan",
    "high voltage": "lightning bolt",
    "person: blond hair": "person with blond hair",
    "person: beard": "person with beard",
    "person: red hair": "person with red hair",
    "person: curly hair": "person with curly hair",
    "person: white hair": "person with white hair",
    "person: bald": "bald person",
    "shallow pan of food": "paella",
    "sheaf of rice": "rice plant",
    "construction": "construction barrier",
    "wedding": "wedding chapel",
    "fog": "fog cloud",
    "ice": "ice cube",
    "ring": "engagement ring",  # "ring" is a shape of the shapes world
    "performing arts": "theater masks",
    "dizzy": "dizzy star",
    "dashing away": "puff of smoke",
    "building construction": "construction site",
    "tennis": "tennis racket and ball",
    "bowling": "bowling ball and pins",
    "badminton": "badminton racket",
    "cricket game": "cricket bat and ball",
    "field hockey": "field hockey stick",
    "ice hockey": "ice hockey stick",
    "lacrosse": "lacrosse stick",
    "ping pong": "ping pong paddle",
    "horse racing": "jockey on a horse",
    "star-struck": "star-struck face",
    "rolling on the floor laughing": "face rolling with laughter",
    "love-you gesture": "love-you hand",
    "salt": "salt shaker",
    "pouring liquid": "pouring glass",
    "collision": "explosion",
    "flag in hole": "golf flag",
    "goal net": "goal",
    "framed picture": "framed painting",
    "mate": "cup of mate",
    "musical score": "treble clef",
    "breast-feeding": "woman nursing baby",
}
"""CLDR label -> one that is a noun, or that people would write."""

CLOCK_FACES = range(0x1F550, 0x1F568)

LEFT_OUT: dict[str, str] = {
    "blue heart": "a held-out pair of the shapes world",
    "light blue heart": "a held-out pair of the shapes world",
    "hundred points": "writing, not a thing",
    "zzz": "writing, not a thing",
    "middle finger": "an insult",
    "eye in speech bubble": "a sign of a campaign; nobody names it",
    "woman and man holding hands": "the pair of 'people holding hands' with other hair",
    "grinning cat": "the same picture as 'cat face' in three styles",
    "grinning cat with smiling eyes": "a near-double of 'cat face'",
    "heart suit": "a near-double of 'red heart'",
    "fight cloud": "in one style only",
    "distorted face": "in one style only",
    "mx claus": "a near-double of mrs. claus",
}
"""CLDR label -> why its pictures are not used. More by rule: ``why_left_out``."""


def why_left_out(label: str, code: str) -> str:
    """The reason why a CLDR label is left out, "" if it is not.

    >>> why_left_out("two o'clock", "1f551")
    'a clock face, which differs from 23 others by its hands only'
    """
    if "-" not in code and int(code, 16) in CLOCK_FACES:
        return "a clock face, which differs from 23 others by its hands only"
    if label.endswith(": facing right"):
        return "the mirror image of the same label without 'facing right'"
    if label.startswith("family: "):
        return "families that differ by a head"
    if label.startswith(("kiss: ", "couple with heart: ")):
        return "couples that differ by their hair"
    return LEFT_OUT.get(label, "")
