"""`stoker check`: refuses what cannot work before anything is started; --sample shows candidates and stores nothing."""

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stoker.flows.cli.check import _lines
from stoker.flows.cli.cli import main
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.stages.preview import Outcome
from stoker.storage.shards.sample import Sample
from tests.conftest import HANGS_S
from tests.flows.conftest import Cli
from tests.pipelines.films import film
from tests.pipelines.pictures import packed, picture
from tests.pipelines.sources.test_wikipedia_dump import dump, page
from tests.site import Reply, Site

Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """`stoker check` in this process, of a recipe with these lines: exit code, output and messages."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("STOKER_", "AWS_"))]:
        monkeypatch.delenv(name)
    variables = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null"}
    for name, value in (variables | {"AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}).items():
        monkeypatch.setenv(name, value)

    def run(source: str, *words: str, more: str = "") -> tuple[int, str, str]:
        (tmp_path / "a.toml").write_text(f'corpus = "a"\n[source]\n{source}\n{more}')
        try:
            code = main(["check", "a.toml", *words])
        except SystemExit as end:
            code = int(str(end.code))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


FILES = 'name = "local_files"\nfiles = "pictures"'


def pictures(folder: Path) -> None:
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.jpg").write_bytes(packed(picture()))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (FILES.replace("pictures", "gone"), "gone does not exist; expected a folder, file or glob"),
        (FILES.replace("pictures", "empty"), "no files there; expected images or texts"),
        (FILES.replace("pictures", "empty/*.jpg"), "no files there; expected images or texts"),
        ('name = "image_urls"\nlists = "gone.csv"', "lists: 'gone.csv': no such file in"),
        ('name = "image_urls"\nlists = ["urls.csv", "*.tsv"]', "lists: '*.tsv': no such file in"),
        ('name = "image_urls"\nlists = "list.doc"', "list.doc: unknown kind of list; expected a name that ends in"),
        (
            'name = "image_urls"\nlists = "urls.csv"\nurl_column = "link"',
            "no column is called 'link'; there are: url, te",
        ),
        ('name = "image_urls"\nlists = "urls.csv"\ncaption_column = "txt"', "'txt'; did you mean 'text'?"),
        ('name = "image_urls"\nlists = "rows.parquet"', "rows.parquet: no column is called 'url'"),
        (
            'name = "image_urls"\nstart = "example.org/birds"',
            "start: 'example.org/birds': no scheme; expected http(s) U",
        ),
        (
            'name = "image_urls"\nstart = ["ftp://a.org/"]',
            "start: 'ftp://a.org/': scheme 'ftp', expected http or https",
        ),
        ('name = "video_frames"\nvideos = "gone.mp4"', "videos: 'gone.mp4': no such file in"),
        ('name = "video_frames"\nvideos = "example.org/a.mp4"', "no such file in"),
        ('name = "video_frames"\nvideos = "*.webm"', "videos: '*.webm': no such file in"),
        (
            'name = "video_frames"\nvideos = "ftp://a.org/a.mp4"',
            "scheme 'ftp', expected http or https; expected an http",
        ),
        ('name = "video_frames"\nlists = "urls.csv"\nurl_column = "video"', "no column is called 'video'"),
        ('name = "wikipedia_dump"\ndump = "gone.xml.bz2"', "no such file; expected a dump file, a glob or a URL"),
        ('name = "wikipedia_dump"\ndump = "urls.csv"', "urls.csv: neither XML nor bz2 nor gzip"),
        ('name = "wikipedia_dump"\ndump = "http://"', "dump 'http://': no host; expected a URL"),
        ('name = "hugging_face"\ndataset = "./gone"', "dataset './gone': no such file or folder"),
        ('name = "hugging_face"\ndataset = "rows.parquet"\ntext = "body"', "no column 'body'; "),
    ],
)
def test_what_a_source_lacks_is_one_line(source: str, expected: str, check: Check, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden.jpg").write_bytes(b"")
    (tmp_path / "urls.csv").write_text("url,text\nhttp://a.org/a.jpg,a\n")
    (tmp_path / "list.doc").write_text("")
    pq.write_table(pa.table({"words": ["one"]}), tmp_path / "rows.parquet")
    before = sorted(tmp_path.rglob("*"))
    code, out, message = check(source)
    assert (code, out) == (1, ""), message
    assert message.startswith("stoker: a.toml: source: ")
    assert expected in message
    assert message.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a.toml", *before]


@pytest.mark.parametrize(
    ("package", "source", "extra"),
    [
        ("av", 'name = "video_frames"\nvideos = "https://a.org/a.mp4"', "video"),
        ("datasets", 'name = "hugging_face"\ndataset = "ylecun/mnist"', "huggingface"),
    ],
)
def test_a_package_that_is_not_installed_is_one_line(
    package: str, source: str, extra: str, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # how Python itself marks a module that is not there
    code, _, message = check(source)
    assert code == 1
    assert message.startswith("stoker: a.toml: source: ")
    assert f'pip install "stoker[{extra}]"' in message


def test_a_line_of_a_rules_list_that_names_nothing_is_one_line(check: Check, tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "bad.csv").write_text("url,why\ncat/1.jpg,ugly\n")
    code, out, message = check(FILES, more='[[rules]]\nname = "lists"\nby = "url"\nfiles = ["bad.csv"]\n')
    assert (code, out) == (1, "")
    assert message.startswith("stoker: rule 'lists': bad.csv, line 2: 'cat/1.jpg': no scheme; write file:cat/1.jpg")
    assert message.count("\n") == 1


@pytest.mark.parametrize("cron", ["at three", "0 25 * * *", "@daily", "0 3 31 2 *"])
def test_a_time_that_cannot_be_is_one_line(cron: str, check: Check, tmp_path: Path) -> None:
    pictures(tmp_path)
    code, _, message = check(FILES, more=f'[schedule]\ncron = "{cron}"')
    assert code == 1
    assert message.startswith(f"stoker: a.toml: schedule: cron '{cron}': ")
    assert message.count("\n") == 1


@pytest.mark.parametrize("cron", ["0 3 * * *", "*/5 0-23/2 1,15 1-6,12 0"])
def test_a_time_is_checked_without_prefect(cron: str, check: Check, tmp_path: Path) -> None:
    pictures(tmp_path)
    loaded = set(sys.modules)
    assert check(FILES, more=f'[schedule]\ncron = "{cron}"\ntimezone = "Europe/Berlin"')[0] == 0
    assert "prefect" not in set(sys.modules) - loaded


def test_an_unknown_time_zone_is_one_line(check: Check, tmp_path: Path) -> None:
    pictures(tmp_path)
    code, _, message = check(FILES, more='[schedule]\ncron = "0 3 * * *"\ntimezone = "Berlin"')
    expected = "timezone 'Berlin': unknown; expected a name such as Europe/Berlin\n"
    assert (code, message) == (1, f"stoker: a.toml: schedule: {expected}")


@pytest.mark.parametrize(
    ("store", "expected", "exit_code"),
    [
        ("a.txt", "a.txt: a file; expected", 1),
        ("a.txt/store", "a.txt is no folder; choose another", 1),
        ("s3://bucket/corpora", "s3://bucket/corpora: no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET", 1),
        ("ftp://a.org", "ftp://...: no such kind", 2),  # whatever is there, the flag is wrong
    ],
)
def test_a_store_that_cannot_be_written_is_one_line(
    store: str, expected: str, exit_code: int, check: Check, tmp_path: Path
) -> None:
    pictures(tmp_path)
    (tmp_path / "a.txt").write_text("")
    code, out, message = check(FILES, "--store", store)
    assert (code, out) == (exit_code, ""), message
    assert expected in message
    assert message.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_one_line(check: Check, tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "locked may not be written" in check(FILES, "--store", "locked/store")[2]


def test_with_keys_or_a_profile_an_s3_store_is_accepted_unasked(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "nobody" in check(FILES, "--store", "s3://bucket")[2]
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert check(FILES, "--store", "s3://bucket")[0] == 0


def test_a_right_recipe_starts_nothing_fetches_nothing_and_leaves_nothing(
    check: Check, tmp_path: Path, site: Site
) -> None:
    code, out, _ = check(f'name = "image_urls"\nstart = "{site.url("/")}"')
    assert (code, out.splitlines()[0]) == (0, "a.toml: corpus a, source image_urls")
    assert site.log == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.toml"]


def test_the_columns_that_are_read_are_said(check: Check, tmp_path: Path) -> None:
    table = pa.table({"vector": [b"a"], "text": ["b"], "label": [1.0]})
    pq.write_table(table, tmp_path / "x.parquet")
    code, output, _ = check('name = "hugging_face"\ndataset = "x.parquet"')
    assert code == 0
    line = "x.parquet: no image; text = text (string); label = label (double); not read: vector"
    assert f"reads {line}\n" in output
    _, output, _ = check('name = "hugging_face"\ndataset = "x.parquet"', "--json")
    assert json.loads(output)["reads"] == [line]


def test_ingest_refuses_what_check_refuses_before_it_starts_a_server(cli: Cli) -> None:
    (cli.folder / "a.toml").write_text('corpus = "a"\n[source]\nname = "image_urls"\nlists = "gone.csv"')
    started = time.monotonic()
    assert cli.refused("ingest", "a.toml").startswith("stoker: a: source: lists: 'gone.csv': no such file in")
    assert not (cli.folder / ".stoker" / "logs").exists(), f"a server was started ({time.monotonic() - started:.0f} s)"


STEPS = '[[steps]]\nname = "image_size"\nmin_short_side = 100\n[[rules]]\nname = "exact_duplicates"'


def test_a_sample_shows_what_would_become_of_each_candidate_and_stores_nothing(
    check: Check, tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOKER_ALLOW_PRIVATE", "true")
    monkeypatch.setenv("STOKER_REQUESTS_PER_SECOND", "0")
    image = {"Content-Type": "image/jpeg"}
    site.pages |= {
        "/robots.txt": Reply(b"User-agent: *\nDisallow: /private/"),
        "/a.jpg": Reply(packed(picture()), headers=image),
        "/small.jpg": Reply(packed(picture(32, 20)), headers=image),
        "/private/b.jpg": Reply(packed(picture()), headers=image),
        "/last.jpg": Reply(packed(picture()), headers=image),
    }
    paths = ["/a.jpg", "/small.jpg", "/private/b.jpg", "/a.jpg", "/gone.jpg", "/last.jpg"]
    (tmp_path / "urls.txt").write_text("\n".join([*(site.url(path) for path in paths), "no URL"]))
    code, out, message = check('name = "image_urls"\nlists = "urls.txt"', "--sample", "5", more=STEPS)
    assert code == 0
    lines = out.splitlines()[5:]
    assert [line[5:14].strip() for line in lines[:10:2]] == ["kept", *["rejected"] * 4]
    assert ": jpg 320x240, " in lines[0]
    assert lines[1].strip() == site.url("/a.jpg")
    assert "too_small (by image_size): 32x20" in lines[2]
    assert "robots (by image_urls)" in lines[4]
    assert "duplicate_key (by image_urls): urls.txt:4: an earlier row has the same URL" in lines[6]
    assert "gone (by image_urls)" in lines[8]
    assert lines[-1] == "5 candidates: 1 kept, 4 rejected (duplicate_key 1, gone 1, robots 1, too_small 1)"
    assert message.endswith("\nnothing was stored; the rules, which need the whole corpus, were not applied\n")
    assert site.asked("/last.jpg") == [], "no more is fetched than is shown"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.toml", "urls.txt"]


def test_a_sample_of_each_kind_of_source(check: Check, tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_bytes(dump(page(1, "Some text."), page(2, "Talk", ns=1)))
    pq.write_table(pa.table({"text": ["one", "", "three"], "label": [4, 5, 6]}), tmp_path / "rows.parquet")
    film(tmp_path / "a.mp4", [0, 500, 1000, 1500])
    pictures(tmp_path)
    (tmp_path / "pictures" / "a.txt").write_text("its caption")
    shown = {
        'name = "wikipedia_dump"\ndump = "x.xml"': "2 candidates: 1 kept, 1 rejected (namespace 1)",
        'name = "hugging_face"\ndataset = "rows.parquet"': "3 candidates: 2 kept, 1 rejected (empty 1)",
        'name = "video_frames"\nvideos = "*.mp4"': "2 candidates: 2 kept, 0 rejected",
        FILES: "1 candidate: 1 kept, 0 rejected",
        FILES.replace("pictures", "*/*.jpg"): "1 candidate: 1 kept, 0 rejected",
    }
    assert {source: check(source, "--sample", "10")[1].splitlines()[-1] for source in shown} == shown


def test_a_download_that_is_too_large_to_preview_is_said(
    check: Check, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOKER_ALLOW_PRIVATE", "true")
    for path in ("/x.xml", "/a.mp4"):
        site.pages[path] = Reply(b"x" * 100, length=100 << 20)
    for source in (
        f'name = "wikipedia_dump"\ndump = "{site.url("/x.xml")}"',
        f'name = "video_frames"\nvideos = "{site.url("/a.mp4")}"',
    ):
        code, out, message = check(source, "--sample", "3")
        assert (code, out.splitlines()[-1]) == (0, "0 candidates: 0 kept, 0 rejected")
        assert "download it first to see a sample" in message


@pytest.mark.parametrize("count", ["0", "1001", "-3", "x"])
def test_a_sample_of_a_number_that_cannot_be_is_wrong_usage(count: str, check: Check) -> None:
    assert check(FILES, "--sample", count)[0] == 2


def test_a_line_of_a_sample_fits_80_columns_and_obeys_no_control_characters() -> None:
    record = {"url": "https://example.org/" + "x" * 200, "label": "a\x1b[31mb"}
    sample = Sample("k" * 40, {"jpg": b""}, record, {"size": 12_345, "width": 640, "height": 480})
    kept = _lines(10, Outcome(sample), 80)
    rejected = _lines(1000, Outcome(sample, Rejected("too_large", "word " * 50), "image_urls"), 80)
    assert max(map(len, (*kept, *rejected))) <= 80
    assert kept[0].startswith("  10 kept      kkkk")
    assert kept[0].endswith(": jpg 640x480, 12.3 kB,")
    assert " ".join(rejected).split().count("word") == 50, "what is wrong is not cut"
    assert rejected[-1].endswith("…")
    assert not any("\x1b" in line for line in _lines(1, Outcome(sample), 0))
    assert _lines(1, Outcome(sample), 0)[1].endswith("x" * 200)


def test_on_a_terminal_a_sample_is_as_wide_as_the_terminal(cli: Cli) -> None:
    (cli.folder / ("d" * 90)).mkdir()
    (cli.folder / ("d" * 90) / "a.txt").write_text("Some words.")
    (cli.folder / "a.toml").write_text('corpus = "a"\n[source]\nname = "local_files"\nfiles = "."')
    main_end, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "stoker", "check", "a.toml", "--sample", "2"],
        cwd=cli.folder, env=cli.environment() | {"COLUMNS": "80"}, stdout=terminal, timeout=HANGS_S, check=True,
    )  # fmt: skip
    assert done.returncode == 0
    lines = os.read(main_end, 65536).decode().splitlines()
    os.close(main_end)
    os.close(terminal)
    assert [line for line in lines if line.endswith("…")]
    assert max(map(len, lines)) == 80


@pytest.mark.slow
def test_a_sample_of_a_huge_input_ends_quickly(check: Check, tmp_path: Path) -> None:
    """A million rows, five thousand files, a dump whose end nobody looks at."""
    (tmp_path / "urls.csv").write_text("url\n" + "".join(f"ftp://a.org/{number}\n" for number in range(1_000_000)))
    (tmp_path / "many").mkdir()
    for number in range(5_000):
        (tmp_path / "many" / f"{number}.txt").write_text("Some words.")
    with (tmp_path / "x.xml").open("wb") as file:
        file.write(dump(page(1, "Some text."), page(2, "More.")).replace(b"</mediawiki>", b""))
        file.truncate(20 << 30)
    for source in (
        'name = "image_urls"\nlists = "urls.csv"',
        FILES.replace("pictures", "many"),
        'name = "wikipedia_dump"\ndump = "x.xml"',
    ):
        started = time.monotonic()
        assert check(source, "--sample", "2")[0] == 0
        assert time.monotonic() - started < 30  # also on a busy machine; to read it all takes minutes
