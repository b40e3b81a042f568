"""The demo's web server."""

import httpx

from stoker.flows.demo import server, site


def test_one_page_is_busy_once(served: server.SiteServer) -> None:
    with httpx.Client(base_url=served.url) as client:
        first, second = client.get(site.BUSY_ONCE), client.get(site.BUSY_ONCE)
    assert (first.status_code, second.status_code) == (503, 200)
    assert first.headers["retry-after"] == "1"
    assert served.requests[site.BUSY_ONCE] == 2


def test_parts_of_the_film_are_served(served: server.SiteServer, pages: dict[str, site.Response]) -> None:
    whole = pages[server.FILM].payload
    with httpx.Client(base_url=served.url) as client:
        tag = client.head(server.FILM).headers["etag"]
        part = client.get(server.FILM, headers={"Range": "bytes=10-19", "If-Range": tag})
        end = client.get(server.FILM, headers={"Range": "bytes=-5"})
        beyond = client.get(server.FILM, headers={"Range": f"bytes={len(whole)}-"})
        changed = client.get(server.FILM, headers={"Range": "bytes=10-19", "If-Range": '"another"'})
    assert (part.status_code, part.content) == (206, whole[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole)}"
    assert end.content == whole[-5:]
    assert beyond.status_code == 416
    assert (changed.status_code, changed.content) == (200, whole)
