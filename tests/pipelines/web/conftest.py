"""Fixtures: a site on loopback, and a fast client that is closed afterwards."""

from collections.abc import Iterator

import pytest

from stoker.pipelines.web.client import Web
from tests.site import FAST, Site


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture
def web() -> Iterator[Web]:
    yield FAST
    FAST.close()
