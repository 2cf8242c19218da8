"""Answers of the service for tests of what the console says about them."""

from buckler.client import Answer, Detector, Model


def answer(label: str = "malignant", *reasons: str, flagged: bool = False) -> Answer:
    """Return an answer with a probability of 0.61; ``flagged`` by the detector if so."""
    shares = {"benign": 0.39, "malignant": 0.39, label: 0.61}
    return Answer(
        request_id="0f0f",
        label=label,
        probabilities=shares,
        decision="review" if reasons else "accept",
        reasons=reasons,
        detector=Detector(3.0 if flagged else 1.0, 2.0, "adversarial" if flagged else "clean"),
        model=Model("skin", "3", "sha256:model", "sha256:verdict"),
        receipt=None,
        content={},
    )
