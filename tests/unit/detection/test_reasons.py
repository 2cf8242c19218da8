from buckler.detection.reasons import ANSWER_REASONS, INPUT_REASONS, Reason


def test_a_query_attack_and_a_degraded_model_are_not_reasons_in_the_picture():
    assert set(Reason) - set(INPUT_REASONS) == {"query_attack", "model_degraded"}


def test_reasons_in_the_probabilities_are_told_apart_from_those_in_the_picture():
    assert set(ANSWER_REASONS) == {"low_confidence", "danger_not_excluded"}
    assert set(ANSWER_REASONS) < set(INPUT_REASONS)


def test_the_advice_warns_where_the_label_is_unreliable():
    warned = {reason for reason in Reason if "Do not rely on the label" in reason.advice}
    assert warned == {"adversarial", "query_attack", "out_of_distribution", "model_degraded"}
    assert all(reason.meaning and reason.advice.endswith(".") for reason in Reason)
