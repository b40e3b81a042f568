"""The demo's site, made once and served."""

from collections.abc import Iterator

import pytest

from stoker.flows.demo import server, site


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, site.Response]:
    """Everything the site serves, by path."""
    pytest.importorskip("sklearn")
    pytest.importorskip("av")
    return server.content(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def served(pages: dict[str, site.Response]) -> Iterator[server.SiteServer]:
    with server.serving(pages) as running:
        yield running
