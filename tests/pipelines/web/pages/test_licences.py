"""SPDX identifiers."""

from stoker.pipelines.web.pages.licences import spdx_id


def test_licence_urls_become_spdx_identifiers() -> None:
    assert spdx_id("//creativecommons.org/licenses/by-nc-nd/2.0/") == "CC-BY-NC-ND-2.0"
    assert (
        spdx_id("https://example.com/creativecommons.org/licenses/by/4.0/")
        == "https://example.com/creativecommons.org/licenses/by/4.0/"
    )
