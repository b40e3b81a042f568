"""`stoker export`: a trained model as a file for other programs."""

from argparse import Namespace
from pathlib import Path

from stoker.flows.cli.output import print_json
from stoker.flows.logs import note
from stoker.flows.report.format import size_text
from stoker.flows.start import load_settings, require_torch
from stoker.storage.stores.urls import with_patience

_WHAT = {
    "safetensors": "the weights; names, classes and options are in its metadata",
    "onnx": "the network with its weights, for ONNX Runtime and others",
    "torch": "the network with its weights: torch.export.load(FILE).module()",
}


def export(arguments: Namespace) -> int:
    """Write the file and say what it is."""
    from stoker.training.trained.formats import SUFFIXES, check_format

    check_format(arguments.format, arguments.output)  # now, not when the model is read
    settings = load_settings(arguments)
    store = with_patience(settings.open_store(reading=True), settings.patience_s)
    with require_torch():
        from stoker.training.trained.export import export as write
        from stoker.training.trained.load import load_trained
    trained = load_trained(
        store, arguments.run_name, checkpoint=arguments.checkpoint, device="cpu", network=arguments.network
    )
    path = arguments.output or Path(f"{trained.corpus}-{trained.info.run}{SUFFIXES[arguments.format]}")
    about = write(trained, arguments.format, path)
    if arguments.json:
        print_json(about)
        return 0
    print(f"{path}: {trained.name}, step {trained.info.step:,}, {size_text(about['size'])}")
    note(_WHAT[arguments.format])
    return 0
