"""How much each row trains, in a quick study and in a full one."""

from typing import Any

from stoker.training.studies.plan import Row


class Sizes:
    """Makes rows of networks of a study's size."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.seeds = 2 if quick else 3

    def of(self, quick: int, full: int) -> int:
        """A number of steps or samples."""
        return quick if self.quick else full

    def net(self, name: str, options: dict[str, Any], *, steps: int, rate: float = 0.003, **more: Any) -> Row:
        """A row of a network."""
        training = {"max_steps": steps, "learning_rate": rate, "batch_size": 64, **more.pop("training", {})}
        return Row(name, "cnn", {"pixels": 32, "shift": 0, **options}, training, **{"seeds": self.seeds, **more})

    @property
    def lenet(self) -> Row:
        """LeNet-5 with rectifiers."""
        options = {"net": "lenet5", "shift": 2, "norm": "none"}
        training = {"optimiser": "muon"}
        steps = self.of(400, 2800)
        return self.net("LeNet-5", options, steps=steps, rate=0.01, weight=self.of(5, 30), training=training)

    def residual(self, name: str = "residual net", **more: Any) -> Row:
        """A small residual net."""
        options = {"net": "resnet", "shift": 2, "blocks": 1, "width": 16, **more.pop("options", {})}
        return self.net(name, options, steps=self.of(300, 1400), weight=self.of(15, 90), **more)
