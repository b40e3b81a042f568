"""The claims about models of texts, in bits that it takes to tell a character of held-out text."""

from collections.abc import Mapping
from typing import Any

from stoker.training.studies.plan import Claim, Expect, Row

_RATES = {"lstm": 0.01, "gru": 0.006, "rnn": 0.004}  # the highest that each cell stands


def text_claims(about: Mapping[str, Any], *, quick: bool) -> list[Claim]:  # Any: JSON values
    """The claims for a corpus of texts, ``about`` as ``data.describe`` has it."""
    counts = [Row(f"{order}-gram", "ngram", {"order": order}, random=False) for order in (1, 3, 5)]
    lstm, rnn, gru = _lstm("LSTM", quick), _lstm("plain RNN", quick, cell="rnn"), _lstm("GRU", quick, cell="gru")
    return [
        Claim(
            "memory",
            "A network with a long memory predicts text better than counts after two characters",
            [*counts, lstm],
            [
                Expect("above", "3-gram", "1-gram", 0.2),
                Expect("above", "LSTM", "3-gram", 0.0),
            ],
        ),
        Claim(
            "gates",
            "Gates let a recurrent network remember: LSTM and GRU against a plain one",
            [rnn, gru, lstm],
            [
                Expect("above", "LSTM", "plain RNN", 0.02),
                Expect("above", "GRU", "plain RNN", 0.02),
            ],
        ),
        Claim(
            "data",
            "Data is the coal: the same network learns more from more of it",
            [_lstm("LSTM, 1 % of the data", quick, 0.01), _lstm("LSTM, 10 % of the data", quick, 0.1), lstm],
            [
                Expect("above", "LSTM", "LSTM, 10 % of the data", 0.02),
                Expect("above", "LSTM, 10 % of the data", "LSTM, 1 % of the data", 0.1),
            ],
        ),
    ]


def _lstm(name: str, quick: bool, share: float = 1.0, **options: Any) -> Row:
    training = {
        "max_steps": 600 if quick else 5000,
        "batch_size": 32,
        "learning_rate": _RATES[options.get("cell", "lstm")],
    }
    options = {"hidden": 192 if quick else 384, "window": 64, **options}
    return Row(name, "lstm", options, training, share=share, seeds=1 if quick else 2, weight=50)
