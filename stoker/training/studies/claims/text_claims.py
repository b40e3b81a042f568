"""The claims about models of texts, in bits that it takes to tell a character of held-out text."""

from collections.abc import Mapping
from typing import Any

from stoker.training.studies.plan import Claim, Expect, Row

_ORDERS = (1, 3, 5, 7, 9)  # on 2.8 MB of Wikipedia 9-grams are as good as 12-grams, to a hundredth of a bit
_COPIED = 0.02  # share of the held-out text, from which on n-grams win by looking passages up
_ENOUGH = 2_000_000  # bytes of text, of which a network of this size learns more than n-grams do
_PASSES = 0.1  # bits a character by which 5-grams are passed; longer ones by any
_WELL_TRAINED = {"hidden": 512, "window": 64, "dropout": 0.4}
_MUON = {"optimiser": "muon", "learning_rate": 0.01, "max_steps": 8000, "batch_size": 32}
_RATES = {"lstm": 0.01, "gru": 0.006, "rnn": 0.004}  # the highest that each cell stands
_LONG_RATES = {**_RATES, "lstm": 0.005}  # in a full study


def text_claims(about: Mapping[str, Any], *, quick: bool) -> list[Claim]:  # Any: JSON values
    """The claims for a corpus of texts, ``about`` as ``data.describe`` has it."""
    counts = [Row(f"{order}-gram", "ngram", {"order": order}, random=False) for order in _ORDERS]
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
        _best_counts(about, counts[_ORDERS.index(5) :], quick=quick),
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


def _best_counts(about: Mapping[str, Any], counts: list[Row], *, quick: bool) -> Claim:  # Any: JSON values
    """The network against n-grams of five and more bytes, by modified Kneser-Ney smoothing."""
    title = "From megabytes an LSTM that is well trained learns to predict new text better than n-grams of any length"
    if (share := about.get("copied", 0.0)) >= _COPIED:
        reason = f"{share:.0%} of the held-out text is in the training text word for word: counts look it up there"
        return Claim("counts", title, inapplicable=reason)
    if quick or about["train"] < _ENOUGH:
        reason = f"it takes a full study, and {_ENOUGH:,} bytes to train on; there are {about['train']:,}"
        return Claim("counts", title, inapplicable=reason)
    network = Row("LSTM, Muon", "lstm", _WELL_TRAINED, _MUON, weight=400)
    passes = [Expect("above", network.name, one.name, 0.0 if number else _PASSES) for number, one in enumerate(counts)]
    return Claim("counts", title, [*counts, network], passes)


def _lstm(name: str, quick: bool, share: float = 1.0, **options: Any) -> Row:
    training = {
        "max_steps": 600 if quick else 5000,
        "batch_size": 32,
        "learning_rate": (_RATES if quick else _LONG_RATES)[options.get("cell", "lstm")],
    }
    options = {"hidden": 192 if quick else 384, "window": 64, **options}
    return Row(name, "lstm", options, training, share=share, seeds=1 if quick else 2, weight=50)
