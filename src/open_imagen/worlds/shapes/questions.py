"""Questions about scenes of the shapes world, and their true answers from exact geometry."""

from typing import Any

from open_imagen.worlds.shapes.captions import IRREGULAR
from open_imagen.worlds.shapes.scenes import NUMBERS, Layout, Placed, Scene, relation_holds

LARGE = 0.18
"""Half heights above this share of the side are large; a lone object named small is below."""


def questions(scene: Scene) -> list[dict[str, Any]]:
    """The atoms of a scene; colours, numbers and relations depend on the objects being there."""
    atoms: list[dict[str, Any]] = []

    def ask(category: str, question: str, *parents: int) -> int:
        number = len(atoms) + 1
        atoms.append(
            {
                "id": number,
                "question": question,
                "answer": "yes",
                "parents": list(parents),
                "category": category,
            }
        )
        return number

    if scene.sign:
        ask("text", f'Does the image show the word "{scene.sign}"?')
    there = []
    for kind in scene.kinds:
        shape = ask("shape", f"Is there a {kind.shape}?")
        color = ask("color", f"Is there a {kind.color} {kind.shape}?", shape)
        there.append(color)
        if scene.count > 1:
            shapes = IRREGULAR.get(kind.shape, kind.shape + "s")
            number = NUMBERS[scene.count - 1]
            ask("count", f"Are there exactly {number} {kind.color} {shapes}?", color)
        elif kind.size and len(scene.kinds) == 1:
            ask("size", f"Is the {kind.color} {kind.shape} {kind.size}?", color)
    if scene.relation:
        first, second = (f"the {kind.color} {kind.shape}" for kind in scene.kinds)
        ask("position", f"Is {first} {scene.relation} {second}?", *there)
    if scene.background:
        ask("background", f"Is the background {scene.background}?")
    return atoms


def answers(scene: Scene, shown: Layout) -> list[bool]:
    """Whether the answer to each question about a scene is yes for an exact drawing."""
    found: list[bool] = []
    if scene.sign:
        found.append(shown.sign is not None and shown.sign.word == scene.sign)
    for kind in scene.kinds:
        alike = [one for one in shown.objects if one.kind.shape == kind.shape]
        same = [one for one in alike if one.kind.color == kind.color]
        found += [bool(alike), bool(same)]
        if scene.count > 1:
            found.append(len(same) == scene.count)
        elif kind.size and len(scene.kinds) == 1:
            large = [one.radius > LARGE for one in same]
            found.append(bool(large) and large[0] == (kind.size == "large"))
    if scene.relation:
        found.append(_related(scene, shown))
    if scene.background:
        found.append(shown.background == scene.background)
    return found


def _related(scene: Scene, shown: Layout) -> bool:
    def of(number: int) -> list[Placed]:
        kind = scene.kinds[number]
        return [o for o in shown.objects if (o.kind.color, o.kind.shape) == kind[:2]]

    return any(
        relation_holds(scene.relation, a.x - b.x, a.y - b.y)
        for a in of(0)
        for b in of(1)
        if a is not b
    )
