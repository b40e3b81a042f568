"""The demo's film."""

from pathlib import Path

from stoker.flows.demo import film, server, site


def test_the_film_is_h264_and_the_same_every_time(tmp_path: Path, pages: dict[str, site.Response]) -> None:
    import av

    film.make(tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").read_bytes() == pages[server.FILM].payload
    with av.open(str(tmp_path / "film.mp4")) as made:
        stream = made.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", film.WIDTH, film.HEIGHT)
        assert sum(1 for _ in made.decode(stream)) == 25 * sum(seconds for _, seconds, _, _ in film.SCENES)
