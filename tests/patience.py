"""How long tests wait for what should come at once, on a machine that other work may hold up for minutes."""

HANGS_S = 600.0  # after which a process is taken to hang
PATIENCE = 5  # times as long as on a quiet machine
