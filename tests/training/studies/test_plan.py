"""Claims are judged by what was measured, with their margins."""

import pytest

from stoker.training.studies.plan import Claim, Expect, Row, Scale, judge, samples_of

ACCURACY, BITS = Scale("accuracy", 0.1), Scale("bits_per_character", 8.0)


def measured(**scores: float) -> dict[str, dict[str, object]]:
    return {
        name: {"name": name, "parameters": round(1000 * score), "runs": [{"score": score}, {"score": score}]}
        for name, score in scores.items()
    }


@pytest.mark.parametrize(
    ("expect", "scale", "held"),
    [
        (Expect("above", "good", "poor", 0.2), ACCURACY, True),
        (Expect("above", "good", "poor", 0.5), ACCURACY, False),
        (Expect("above", "poor", "good", -0.5), ACCURACY, True),
        (Expect("above", "poor", "good", -0.3), ACCURACY, False),
        (Expect("above", "poor", "good", 0.3), BITS, True),  # fewer bits are better
        (Expect("above", "good", "poor", 0.0), BITS, False),
        (Expect("learns", "poor", margin=0.35), ACCURACY, True),
        (Expect("learns", "poor", margin=0.45), ACCURACY, False),
        (Expect("fails", "poor", margin=0.45), ACCURACY, True),
        (Expect("fails", "poor", margin=0.35), ACCURACY, False),
        (Expect("smaller", "poor", "good", 1.5, "parameters"), ACCURACY, True),
        (Expect("smaller", "good", "poor", 1.5, "parameters"), ACCURACY, False),
    ],
)
def test_an_expectation_holds_by_its_margin(expect: Expect, scale: Scale, held: bool) -> None:
    rows = [Row("good", "cnn"), Row("poor", "cnn")]
    judged = judge(Claim("name", "title", rows, [expect]), measured(good=0.9, poor=0.5), scale)
    assert judged["expects"][0]["held"] is held
    assert judged["verdict"] == ("held" if held else "not held")
    assert (judged["reason"] == "") is held


def test_a_claim_with_a_row_that_is_missing_is_unfinished() -> None:
    claim = Claim("name", "title", [Row("good", "cnn"), Row("poor", "cnn")], [Expect("above", "good", "poor")])
    judged = judge(claim, measured(good=0.9), ACCURACY)
    assert (judged["verdict"], judged["reason"]) == ("unfinished", "not measured: poor")


def test_a_claim_that_does_not_apply_says_why() -> None:
    judged = judge(Claim("gpu", "title", inapplicable="no GPU"), {}, ACCURACY)
    assert (judged["verdict"], judged["reason"]) == ("not applicable", "no GPU")


def test_a_run_is_known_by_all_that_it_depends_on_and_by_nothing_else() -> None:
    row = Row("a", "cnn", {"width": 4}, {"max_steps": 3})
    same = Row("renamed", "cnn", {"width": 4}, {"max_steps": 3}, seeds=7, weight=3)
    others = [Row("a", "cnn", {"width": 8}, {"max_steps": 3}), Row("a", "cnn", {"width": 4}, {"max_steps": 4})]
    assert row.digest(0, "data") == same.digest(0, "data")
    digests = {
        row.digest(0, "data"),
        row.digest(1, "data"),
        row.digest(0, "other"),
        *(o.digest(0, "data") for o in others),
    }
    assert len(digests) == 5


def test_a_share_is_one_of_the_samples_that_the_row_may_have() -> None:
    assert samples_of(Row("a", "cnn", share=0.1), 500) == 50
    assert samples_of(Row("a", "cnn", samples=200, share=0.1), 500) == 20
    assert samples_of(Row("a", "cnn", share=0.001), 500) == 1
