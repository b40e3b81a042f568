"""The arguments of the commands about trained models."""

from typing import Protocol

from stoker.flows.cli.usage.parsing import Parser, whole_number

_RUN_HELP = "a run, as cnn-0001; or a model, for its newest run; CORPUS/RUN where several corpora have one"


class Add(Protocol):
    """Adds a command's parser."""

    def __call__(self, name: str, text: str, parent: Parser, run: str) -> Parser:
        """The parser of a new command; ``run``: its function, as ``module:function``."""


def add_model_commands(add: Add, store: Parser) -> None:
    """Declare the commands."""
    text = (
        "what a trained model comes to on a split: accuracy, confusion, the samples it is most confidently wrong about"
    )
    evaluate = add("evaluate", text, store, run="stoker.flows.cli.models.evaluate:evaluate")
    evaluate.add_argument("run_name", metavar="RUN", help=_RUN_HELP)
    text = "that it was trained on, or another; the newest version, or version V"
    evaluate.add_argument("corpus", metavar="CORPUS[@V]", help=text)
    text = "(test, else validation, else that of the training's own evaluation)"
    evaluate.add_argument("--split", default="", metavar="NAME", help=text)
    _add_checkpoint_and_device(evaluate)
    evaluate.add_argument("--batch-size", type=whole_number(1), default=0, metavar="N", help="(that of training)")
    evaluate.add_argument("--skip-budget", default="", metavar="N", help="as of stoker train (1%%, and at least 100)")


def _add_checkpoint_and_device(command: Parser) -> None:
    text = "the one with the best score of all evaluations, or the last (best)"
    command.add_argument("--checkpoint", choices=("best", "last"), default="best", help=text)
    command.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, mps, or the best there is (auto)")
