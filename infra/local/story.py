"""The end of the demo: asks the running service about a picture, the same picture under attack, and one it misses.

``python -m infra.local.story --url ADDRESS`` tells it again. ``BUCKLER_CLIENT_KEY`` is the API key, if the service
requires one. The pictures are searched with the released model on this machine; every printed answer is the service's.

Reads   models/release/, data/splits/test.csv and its pictures, the public keys
Writes  reports/ask/: the pictures sent, {flipped,missed}_{clean,attacked}.png, triptych.png, answers.json
        and story.txt
"""

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from buckler.cli.answers import CLIENT_KEY_ENV
from buckler.client import Answer, Client
from buckler.detection.reasons import Reason
from buckler.errors import BucklerError
from buckler.modality.picture import images
from buckler.state import documents
from infra.local.search import AWARE, RADII, UNSEEN, Found, Search
from pipelines.stage import stage

RELEASE = Path("models/release")
TEST = Path("data/splits/test.csv")
OUT = Path("reports/ask")
TEXT = "story.txt"
FOLLOW_SECONDS = 90  # until a running service has loaded a promoted model; it looks every BUCKLER_FOLLOW_SECONDS


@dataclass(frozen=True, slots=True)
class Asked:
    """A found picture, and the service's answers to it and to its attacked copy."""

    found: Found
    clean: Answer
    attacked: Answer


@dataclass(frozen=True, slots=True)
class Story:
    """What the demo tells.

    Attributes:
        flipped: The picture that PGD turns into a harmless label, if there is one.
        missed: The attacked picture that is wrong and accepted, if there is one.
        about: Which pictures were attacked, in words.
        tried: How many.
    """

    flipped: Asked | None
    missed: Asked | None
    about: str
    tried: int


def run(url: str, *, show_json: bool = False) -> None:
    """Search the pictures, ask the service at ``url``, write the files of `OUT` and print the story.

    Raises:
        BucklerError: The service serves another model than `RELEASE`, or refuses to answer.
    """
    search = Search.load(RELEASE, TEST)
    with Client(url, key=os.environ.get(CLIENT_KEY_ENV)) as service:
        _wait_for(service, search.predictor.digest)
        flipped, missed = (_ask(service, found) for found in search.run())
    story = Story(flipped, missed, search.candidates.about, len(search.candidates.pictures.ids))
    answers, lines = _write(story), told(story)
    (OUT / TEXT).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    print(f"\nPictures (triptych.png) and whole answers (answers.json) are in {OUT}.")
    if show_json:
        print(json.dumps(answers, indent=2))


def told(story: Story) -> list[str]:
    """Return the story in lines for people."""
    if not story.tried:
        return [f"No picture to tell about: {story.about}."]
    return [
        *_flipped(story),
        "",
        *_missed(story),
        "",
        f"The pictures are chosen by a rule: {story.about}.",
        f"The first is the one within {UNSEEN} whose right and wrong answer are both sure, the other the surest",
        "that is accepted under attack, at the smallest radius at which one is.",
    ]


def _flipped(story: Story) -> list[str]:
    if story.flipped is None:
        return [f"PGD within {RADII[-1]} flipped none of {story.tried} pictures."]
    found, before, after = story.flipped.found, story.flipped.clean, story.flipped.attacked
    unseen = ", which the eye cannot see," if found.radius <= UNSEEN else ""
    return [
        f"1  {found.name}, a {found.truth} picture, is answered {_sure(before)}: {before.decision}",
        f"2  under {_budget(found)}{unseen} the same picture is FLIPPED to {_sure(after)}",
        f"3  {_noticed(after)}",
    ]


def _missed(story: Story) -> list[str]:
    if story.missed is None:
        return [
            f"None of {story.tried} pictures slipped through: within {RADII[-1]} neither PGD nor {AWARE}",
            "found a wrong answer without a warning. That is no proof: a stronger attacker may find one.",
        ]
    found, before, after = story.missed.found, story.missed.clean, story.missed.attacked
    return [
        f"And one that slips through: {found.name}, a {found.truth} picture, is answered {_sure(before)}.",
        f"Under {_budget(found)} it is answered {_sure(after)}. {_noticed(after)}.",
    ]


def _sure(answer: Answer) -> str:
    return f"{answer.label} {answer.probabilities[answer.label]:.1%}"


def _budget(found: Found) -> str:
    return f"{found.attack} within {found.radius}"


def _noticed(answer: Answer) -> str:
    """Return in words what the service made of an attacked picture."""
    score = f"score {answer.detector.score:.1f}, limit {answer.detector.threshold:.1f}"
    if answer.decision == "accept":
        return f"The detector does not notice it ({score}): ACCEPT, a wrong answer without a warning"
    if answer.detector.verdict == "adversarial":
        return f"The detector notices it ({score}): review, a person must look at it"
    reasons = "; ".join(map(_meant, answer.reasons))
    return f"The detector does not notice it ({score}), but the answer goes to review: {reasons}"


def _meant(reason: str) -> str:
    """Return the sentence of a reason; a newer service may have others."""
    known = {str(each): each.meaning for each in Reason}
    return known.get(reason, reason)


def _wait_for(service: Client, digest: str) -> None:
    """Wait until ``service`` serves the model ``digest``: one that ran before the promotion loads it after a while.

    Raises:
        BucklerError: It still serves another one after `FOLLOW_SECONDS`.
    """
    deadline = time.monotonic() + FOLLOW_SECONDS
    while (live := service.model_card()["model"]["digest"]) != digest:
        if time.monotonic() > deadline:
            raise BucklerError(
                f"the service serves model {live}, {RELEASE} is {digest}: promote it with `buckler promote`; after an"
                " update of the product restart the servers, too (`make down`, `make up`)"
            )
        time.sleep(1)


def _ask(service: Client, found: Found | None) -> Asked | None:
    """Return the answers to both pictures of ``found``."""
    if found is None:
        return None
    return Asked(found, *(service.predict(images.to_png(pixels)) for pixels in (found.clean, found.attacked)))


def _write(story: Story) -> dict[str, Any]:
    """Write the pictures and the answers, and return the answers as written."""
    from buckler.reporting import plots  # loads matplotlib

    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.glob("*.png"):
        old.unlink()
    answers: dict[str, Any] = {"about": story.about, "flipped": None, "missed": None}
    rows = []
    for kind, asked in (("flipped", story.flipped), ("missed", story.missed)):
        if asked is None:
            continue
        found = asked.found
        for side in ("clean", "attacked"):
            (OUT / f"{kind}_{side}.png").write_bytes(images.to_png(getattr(found, side)))
        facts = {name: getattr(found, name) for name in ("name", "truth", "attack", "radius")}
        answers[kind] = facts | {side: dict(getattr(asked, side).content) for side in ("clean", "attacked")}
        titles = (_caption(f"clean, {found.truth}", asked.clean), _caption(_budget(found), asked.attacked))
        rows.append((found.clean, found.attacked, titles))
    documents.write_json(OUT / "answers.json", answers)
    if rows:
        clean, attacked, captions = zip(*rows, strict=True)
        plots.triptych(np.stack(clean), np.stack(attacked), captions, OUT / "triptych.png")
    return answers


def _caption(title: str, answer: Answer) -> str:
    return f"{title}\nanswer: {_sure(answer)}, {answer.decision}"


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:3000", help="of the service (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="also print the whole answers")
    given = parser.parse_args()
    run(given.url, show_json=given.json)


if __name__ == "__main__":
    stage(main)
