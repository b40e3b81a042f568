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
        """A small residual net.

        By Muon where there is much to learn: it reaches 91.9 % of Fashion-MNIST in 1,400 steps, AdamW 87.7 %.
        """
        options = {"net": "resnet", "shift": self.of(2, 0), "blocks": 1, "width": 16, **more.pop("options", {})}
        training = {"optimiser": "adamw" if self.quick else "muon", **more.pop("training", {})}
        steps, rate = self.of(300, 2800), 0.003 if self.quick else 0.02
        return self.net(name, options, steps=steps, rate=rate, weight=self.of(15, 200), training=training, **more)
