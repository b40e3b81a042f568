"""Fixtures of the command line, for tests of the whole system."""

from tests.flows.conftest import cli, prefect_url, served

__all__ = ["cli", "prefect_url", "served"]
