"""The options of a training run, checked and converted from text. Imports no torch."""

import dataclasses
import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

from stoker.training.errors import TrainingError
from stoker.training.stream.options import words_for


@dataclass(frozen=True)
class TrainOptions:
    """How to train, whatever the model; a model may have defaults of its own for these.

    >>> TrainOptions(epochs=3, optimiser="sgd").learning_rate
    0.003

    Args:
        epochs: how often the training split is read.
        batch_size: samples, or rows of text, in a batch.
        optimiser: adamw, adam, rmsprop, adagrad; sgd without momentum, with momentum, with Nesterov's; muon for inner
            matrices and convolutions with adamw for all else.
        learning_rate: the highest; the schedule begins and ends below it.
        momentum: of momentum, nesterov and rmsprop.
        weight_decay: of matrices; vectors (biases, gains) do not decay.
        schedule: how the learning rate falls after the warmup: cosine, linear, or constant for not at all.
        warmup: share of all steps in which the learning rate rises from 0.
        clip: greatest norm of the gradient; 0: no limit.
        accumulate: parts that a batch is divided into, one after the other on the device: for batches that are too
            large for its memory. The gradient is that of the whole batch; batch normalisation sees each part alone.
        ema: decay of a moving average of the weights, such as 0.999, which is evaluated in their place; 0: none.
        on_nan: what to do when a loss or gradient is not finite: stop and name the samples of the batch, or skip:N to
            leave out up to N such batches of the run, and name them.
        split: split to train on.
        eval_split: split to evaluate on; "": validation, or else any other split. Its old name is held_out.
        hold_out: share of the training split that is not trained on but evaluated on, such as 10%, for a version of one
            split; samples are chosen by their records alone, so that they stay the same; groups stay together (of
            indexed tars: the value group in samples' .json; without one a sample's key decides).
        skip_budget: samples of each split that may be left out because they do not decode, as a number or a share (500,
            2%); more of them end the run, and with 0 the first does. "": 1%, and at least 100.
        seed: of the order, the weights and the augmentation.
        device: cpu, cuda, mps, xla, or auto for the best that is there.
        threads: of torch on the CPU; 0: torch's own choice. A run resumes bit for bit only with the same number.
        workers: threads that read and decode; 0: the training loop does it itself.
        checkpoint_s: seconds between checkpoints.
        keep: newest checkpoints to keep, besides the best.
        max_steps: end after so many steps; 0: after all epochs.
        patience: end after so many evaluations in a row without a better score; 0: never before the last step.
        loggers: trackers that get the metrics too: wandb, mlflow, or both (wandb,mlflow); see their own settings,
            WANDB_MODE and MLFLOW_TRACKING_URI. "": none.
        precision: of the network's activations: float32, or bfloat16 or float16 where torch deems them safe; weights
            and the optimiser stay in float32, and the loss of float16 is scaled.
        channels_last: store images and filters channel by channel of each pixel, which convolutions on a GPU prefer.
        compile: let torch compile the network (never one with an LSTM); it says so if it cannot.
        fsdp: divide weights, gradients and the optimiser's state among the ranks of torchrun, for networks that are too
            large for one card; without it each rank has them all (DDP).
        deterministic: torch's algorithms that give the same bits each time, where there are any; false may be faster on
            a GPU, and a run that was resumed then ends with other weights than one that was not.
    """

    epochs: int = 10
    batch_size: int = 64
    optimiser: Literal["adamw", "adam", "rmsprop", "adagrad", "sgd", "momentum", "nesterov", "muon"] = "adamw"
    learning_rate: float = 0.003
    momentum: float = 0.9
    weight_decay: float = 0.01
    schedule: Literal["cosine", "constant", "linear"] = "cosine"
    warmup: float = 0.05
    clip: float = 1.0
    accumulate: int = 1
    ema: float = 0.0
    on_nan: str = "stop"
    split: str = "train"
    eval_split: str = ""
    hold_out: str = ""
    skip_budget: str = ""
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    workers: int = 2
    checkpoint_s: float = 30.0
    keep: int = 2
    max_steps: int = 0
    patience: int = 0
    loggers: str = ""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    compile: bool = False
    fsdp: bool = False
    deterministic: bool = True

    def __post_init__(self) -> None:
        minimum: dict[str, float] = {"epochs": 1, "batch_size": 1, "keep": 1, "accumulate": 1, "patience": 0}
        for name in ("learning_rate", "momentum", "weight_decay", "warmup", "clip", "workers", "threads", "max_steps"):
            minimum[name] = 0
        for name, bound in minimum.items():
            if not getattr(self, name) >= bound:  # so that NaN is refused too
                raise TrainingError(f"option {name} = {getattr(self, name)!r}; expected {bound:g} or more")
        if not 0 <= self.ema < 1:
            raise TrainingError(f"option ema = {self.ema}; expected a decay from 0 to below 1, such as 0.999")
        if self.learning_rate == 0 or self.warmup > 1:
            raise TrainingError("option learning_rate must be above 0, and warmup a share of at most 1")
        if self.fsdp and self.channels_last:
            raise TrainingError(
                "options fsdp and channels_last: torch divides no weights that are stored channel by channel; set one"
            )
        skip_budget_of(self.skip_budget, 0)
        skips_of(self.on_nan)
        if self.loggers:
            from stoker.training.run.loggers.trackers import names_of

            names_of(self.loggers)
        if self.hold_out:
            from stoker.training.stream.subset import share_of

            share_of(self.hold_out)
            if self.eval_split:
                raise TrainingError(
                    f"options hold_out = {self.hold_out} and eval_split = {self.eval_split}: both say what to evaluate "
                    "on; set one of them"
                )


def skip_budget_of(text: str, samples: int) -> int:
    """How many of a split's samples may be skipped, by the option. Raises TrainingError.

    >>> skip_budget_of("", 5_000), skip_budget_of("", 50_000), skip_budget_of("2%", 5_000), skip_budget_of("0", 5_000)
    (100, 500, 100, 0)
    """
    if not text:
        return max(100, samples // 100)
    number, percent = text.removesuffix("%").strip(), text.endswith("%")
    try:
        value = float(number) if percent else int(number)
    except ValueError:
        value = -1
    if not value >= 0 or (percent and value > 100):
        raise TrainingError(f"option skip_budget = {text!r}; expected a number of samples, or a share such as 2%")
    return int(value * samples / 100) if percent else int(value)


def skips_of(on_nan: str) -> int:
    """How many batches may be skipped because their loss or gradient is not finite. Raises TrainingError.

    >>> skips_of("stop"), skips_of("skip:20")
    (0, 20)
    """
    word, _, number = on_nan.partition(":")
    if on_nan == "stop":
        return 0
    if word != "skip" or not number.isascii() or not number.isdecimal() or not 0 < int(number) < 10**9:
        raise TrainingError(f"option on_nan = {on_nan!r}; expected stop, or skip:N with a number of batches")
    return int(number)


def parse_options(
    model_name: str, values: Mapping[str, Any]
) -> "tuple[Any, TrainOptions]":  # Any: texts or JSON values; a Model
    """A model and the options of its run, from option values by name; each name belongs to one of the two.

    Raises TrainingError for an unknown name, with the nearest right one, and for a value that is not allowed.
    """
    from stoker.training.run import model as models

    model = models.find(model_name)
    model_options, train_options = _options_of(model), _options_of(TrainOptions)
    chosen: dict[str, dict[str, Any]] = {"model": {}, "train": {}}
    for name, value in _renamed(values, model_options).items():
        if name in model_options:
            chosen["model"][name] = _convert(model_name, name, model_options[name], value)
        elif name in train_options:
            chosen["train"][name] = _convert("train", name, train_options[name], value)
        else:
            known = sorted({*model_options, *train_options})
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
            raise TrainingError(f"neither training nor model {model_name!r} has an option {name!r}; {hint}")
    _refuse_missing(model_name, model, chosen["model"])
    defaults = {name: value for name, value in getattr(model, "defaults", {}).items() if name in train_options}
    return model(**chosen["model"]), TrainOptions(**defaults | chosen["train"])


_OLD_NAMES = {"held_out": "eval_split"}


def _renamed(values: Mapping[str, Any], model_options: Mapping[str, Any]) -> dict[str, Any]:  # Any: as parse_options
    """The values by the present names of the options."""
    renamed = {}
    for name, value in values.items():
        new = name if name in model_options else _OLD_NAMES.get(name, name)
        if new != name:
            if new in values:
                raise TrainingError(f"option {name} is the old name of {new}; give {new} alone")
            text = f"option {name} is now called {new}; the old name will be removed"
            warnings.warn(text, DeprecationWarning, stacklevel=3)
        renamed[new] = value
    return renamed


# Options that leave a run's identity as it was while they have their default: runs from before they were there go on.
ADDED = ("ema", "accumulate", "patience", "precision", "channels_last", "compile", "deterministic")


def run_identity(model_name: str, model: Any, options: TrainOptions) -> dict[str, Any]:  # Any: a Model; JSON values
    """What two runs must share to give the same weights: not where they compute, nor how often they save."""
    ignored = ("device", "threads", "workers", "checkpoint_s", "keep", "skip_budget", "on_nan", "loggers", "fsdp")
    training = {name: value for name, value in dataclasses.asdict(options).items() if name not in ignored}
    from stoker.training.run.model import plugin_identity
    from stoker.training.stream.subset import share_of

    # As runs before these options were called so, or were there: they go on.
    training["held_out"] = training.pop("eval_split")
    if options.hold_out:
        training["hold_out"] = share_of(options.hold_out)
    else:
        del training["hold_out"]
    for name in ADDED:
        if training[name] == getattr(TrainOptions, name):
            del training[name]
    if options.optimiser in ("sgd", "nesterov"):  # sgd was nesterov, and without momentum plain
        training |= {"optimiser": "sgd", "momentum": options.momentum if options.optimiser == "nesterov" else 0.0}
    own = dataclasses.asdict(model)
    for name in getattr(model, "shown", ()):  # options that change what a model writes, and no weights
        own.pop(name, None)
    for option in dataclasses.fields(model):
        if option.name in getattr(model, "added", ()) and own[option.name] == option.default:
            del own[option.name]
    identity = {"model": model_name, "options": own, "training": training}
    return identity | plugin_identity(model)


LENGTH = ("epochs", "max_steps", "patience")  # options that say how long a run is, and nothing of its beginning


def without_length(identity: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON values
    """A run's identity, or that of a longer or shorter run of the same kind."""
    training = {name: value for name, value in identity.get("training", {}).items() if name not in LENGTH}
    return {**identity, "training": training}


def _options_of(options: type[Any]) -> dict[str, Any]:  # Any: types
    """Name → type of a dataclass's options."""
    hints = get_type_hints(options)
    return {option.name: hints[option.name] for option in dataclasses.fields(options) if option.init}


def _refuse_missing(model_name: str, model: type[Any], chosen: Mapping[str, Any]) -> None:  # Any: a model; values
    for option in dataclasses.fields(model):
        has_default = option.default is not dataclasses.MISSING or option.default_factory is not dataclasses.MISSING
        if option.init and not has_default and option.name not in chosen:
            raise TrainingError(f"model {model_name!r} needs option {option.name!r}; set it: --set {option.name}=VALUE")


def _convert(owner: str, name: str, kind: Any, value: object) -> Any:  # Any: a type; what the option holds
    """An option's value from a command line's text or from JSON. Raises TrainingError."""
    choices = get_args(kind)
    if choices and all(isinstance(choice, str) for choice in choices):
        if value in choices:
            return value
        raise TrainingError(f"{owner}: {name} = {value!r}; expected one of: {', '.join(choices)}")
    try:
        if kind is bool:
            if isinstance(value, bool):
                return value
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[str(value).lower()]
        if kind is int and isinstance(value, float) and not value.is_integer():
            raise ValueError("broken")
        return kind(value)  # int, float or str
    except (ValueError, KeyError, TypeError):
        raise TrainingError(f"{owner}: {name} = {value!r}; expected {words_for(kind)}") from None
