"""One rank that joins the others again and again, started by torchrun."""

import torch
from torch import Tensor, nn

from stoker.training.run.steps.parallel import Copies
from stoker.training.run.steps.ranks import joined


class Counting(nn.Module):
    """It counts what it has seen in a buffer."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, rows: Tensor) -> Tensor:
        self.seen += rows.sum()
        output: Tensor = self.layer(rows)
        return output


if __name__ == "__main__":
    for number in range(5):
        with joined("cpu") as ranks:
            total = ranks.sum([float(ranks.rank + number)])
        if ranks.first:
            print("SUM", number, *total)
    with joined("cpu") as ranks:
        network = Counting()
        wrapped = Copies(ranks, torch.device("cpu")).wrap(network)
        for _ in range(2):
            wrapped(torch.full((2, 1), float(ranks.rank + 1))).sum().backward()
        seen = ranks.gather(network.seen)
        if ranks.first:
            print("SEEN", *(one.item() for one in seen))
