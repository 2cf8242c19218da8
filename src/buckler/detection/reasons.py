"""Reasons why a person must review an answer: a closed list for the REST API, metric labels and pages."""

from enum import StrEnum


class Reason(StrEnum):
    """Why an answer has the decision ``review``, in the order in which an answer lists its reasons.

    Attributes:
        meaning: Short sentence for the reader of the answer, without a full stop.
        advice: Cause of the reason, and what the reader should do.
    """

    meaning: str
    advice: str

    def __new__(cls, value: str, meaning: str = "", advice: str = "") -> "Reason":
        """Create a member whose value is the reason's name in the REST API."""
        reason = str.__new__(cls, value)
        reason._value_ = value
        reason.meaning, reason.advice = meaning, advice
        return reason

    ADVERSARIAL = (
        "adversarial",
        "The picture may have been manipulated",
        "The detector of adversarial inputs flagged it. Do not rely on the label. Take the original picture from the"
        " camera, or judge the picture without the model.",
    )
    QUERY_ATTACK = (
        "query_attack",
        "The picture is one of many near-identical ones",
        "This client has sent many pictures that differ only slightly, like an attacker who searches for a picture that"
        " deceives the model. The detector examines each picture alone and may find it clean. Do not rely on the label."
        " Take the original picture from the camera, and report this to the operator of the service.",
    )
    OUT_OF_DISTRIBUTION = (
        "out_of_distribution",
        "The picture is unlike those the model was trained on",
        "Do not rely on the label. Check that the picture shows the right subject, close and in focus.",
    )
    LOW_CONFIDENCE = (
        "low_confidence",
        "The model is not sure",
        "Several labels are about equally likely. Judge the picture yourself, or ask a colleague.",
    )
    DANGER_NOT_EXCLUDED = (
        "danger_not_excluded",
        "The picture may show something dangerous",
        "The label is harmless, but the dangerous labels are too probable to rely on it, or the model was released"
        " without a limit for them. Judge the picture yourself, or ask a colleague.",
    )
    IMAGE_QUALITY = (
        "image_quality",
        "The picture is too poor to judge",
        "It is too dark, too bright, too blurred, or has too little contrast or colour. Take another picture.",
    )
    MODEL_DEGRADED = (
        "model_degraded",
        "The model is not approved at present",
        "Its verdict has expired, or a later check of the model failed. Do not rely on the label, and report this to"
        " the operator of the service.",
    )


# Reasons in the probabilities of the labels: they say nothing about the picture itself.
ANSWER_REASONS = (Reason.LOW_CONFIDENCE, Reason.DANGER_NOT_EXCLUDED)
# Reasons in the picture or its answer; the others concern the client or the model.
INPUT_REASONS = (Reason.ADVERSARIAL, Reason.OUT_OF_DISTRIBUTION, *ANSWER_REASONS, Reason.IMAGE_QUALITY)
