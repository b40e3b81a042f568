"""One rank that joins the others again and again, started by torchrun."""

from stoker.training.run.steps.ranks import joined

for number in range(6):
    with joined("cpu") as ranks:
        total = ranks.sum([float(ranks.rank + number)])
    if ranks.first:
        print("SUM", number, *total)
