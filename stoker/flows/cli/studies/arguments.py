"""The arguments of `stoker study`."""

from stoker.flows.cli.models.arguments import Add
from stoker.flows.cli.usage.parsing import Parser, whole_number


def add_study(add: Add, store: Parser) -> None:
    """Declare the command."""
    text = "what methods of learning reach on a corpus, from shallow ones to 1,001 layers: a table, a row a claim"
    study = add("study", text, store, run="stoker.flows.cli.studies.study:study")
    study.add_argument("corpus", metavar="CORPUS[@V]", help="a corpus's newest version, or version V of it")
    study.add_argument("--quick", action="store_true", help="minutes: fewer samples, steps and seeds")
    study.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="measure this claim, or row, alone; may be repeated"
    )
    text = "how often each row that depends on chance is measured (as the row says)"
    study.add_argument("--seeds", type=whole_number(1, 32), default=0, metavar="N", help=text)
    study.add_argument("--split", default="train", metavar="NAME", help="split to train on (train)")
    text = "split to test on, never trained on (validation, or any other)"
    study.add_argument("--eval-split", default="", metavar="NAME", help=text)
    study.add_argument("--hold-out", default="", metavar="SHARE", help="test on a share of the training split: 10%%")
    study.add_argument("--workers", type=whole_number(1, 99), metavar="N", help="processes that measure (one a core)")
