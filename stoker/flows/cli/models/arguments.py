"""The arguments of the commands about trained models."""

from pathlib import Path
from typing import Protocol

from stoker.flows.cli.usage.parsing import Parser, positive_number, whole_number

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
    text = "a trained model's answers for images of yours, or for a prompt"
    predict = add("predict", text, store, run="stoker.flows.cli.models.predict:predict")
    predict.add_argument("run_name", metavar="RUN", help=_RUN_HELP)
    text = "images, whatever their names, and folders of images"
    predict.add_argument("files", metavar="FILE", nargs="*", help=text)
    predict.add_argument("--top", type=whole_number(1, 1000), default=3, metavar="N", help="classes of each file (3)")
    predict.add_argument(
        "--page", type=Path, metavar="OUT.html", help="also as one HTML file with small pictures in it"
    )
    predict.add_argument("--prompt", metavar="TEXT", help="of a model of texts: what it writes on from")
    text = "of that text; lower is more predictable (that of training)"
    predict.add_argument("--temperature", type=positive_number, metavar="X", help=text)
    predict.add_argument("--length", type=whole_number(1, 1_000_000), metavar="N", help="its bytes (those of training)")
    predict.add_argument("--seed", type=whole_number(0), metavar="N", help="another one writes another text (0)")
    _add_checkpoint_and_device(predict)
    text = "a trained model as a file for other programs; none of the formats is a pickle"
    export = add("export", text, store, run="stoker.flows.cli.models.export:export")
    export.add_argument("run_name", metavar="RUN", help=_RUN_HELP)
    text = "safetensors: the weights; onnx, torch (torch.export): the network too, for batches of any size"
    export.add_argument("--format", choices=("safetensors", "onnx", "torch"), default="safetensors", help=text)
    text = "must be new (CORPUS-RUN with the format's suffix, in this folder)"
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help=text)
    _add_checkpoint(export)


def _add_checkpoint(command: Parser) -> None:
    text = "the one with the best score of all evaluations, or the last (best)"
    command.add_argument("--checkpoint", choices=("best", "last"), default="best", help=text)
    text = "of a network of your own: where it is (a store is not trusted to name code)"
    command.add_argument("--network", default="", metavar="FILE.py:FUNCTION", help=text)


def _add_checkpoint_and_device(command: Parser) -> None:
    _add_checkpoint(command)
    command.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, mps, or the best there is (auto)")
