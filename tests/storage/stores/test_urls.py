"""What names a store, and what is refused in its place."""

from pathlib import Path

import pytest

from stoker.storage.errors import StorageRefused
from stoker.storage.stores.urls import check_there, check_url, open_store


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3:/x", "store s3:/x: no URL; did you mean s3://x?"),
        ("s3//x/y", "did you mean s3://x/y?"),
        ("S3:x", "did you mean s3://x?"),
        ("file:corpora", "did you mean file:///corpora?"),
        ("file:/corpora", "did you mean file:///corpora?"),
        ("s3:", "expected s3://bucket/prefix, file:///folder or a folder's path"),
        ("memory:x", "expected s3://"),
        ("http:/host/x", "expected s3://"),
        ("gs://bucket", "store gs://...: no such kind"),
        ("https://host/x", "no such kind"),
        ("", "store '': expected s3://"),
        ("a\0b", "expected s3://"),
    ],
)
def test_what_cannot_be_a_store_is_refused_with_what_was_meant(url: str, message: str) -> None:
    for function in (check_url, open_store):
        with pytest.raises(StorageRefused) as refused:
            function(url)
        assert message in str(refused.value)


def test_a_password_in_a_mistyped_url_is_not_repeated() -> None:
    with pytest.raises(StorageRefused) as refused:
        check_url("s3:/me:hidden@bucket")
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("name", ["s3", "s3/x", "./s3:/x", "files", "2026:11", "memory", "gs.txt"])
def test_folders_whose_names_are_like_those_of_kinds_are_folders(name: str) -> None:
    assert check_url(name) == name


def test_a_scheme_may_be_written_in_capitals() -> None:
    assert open_store("S3://corpora/a").url == "s3://corpora/a"


def test_a_file_is_no_store_and_a_missing_folder_none_to_read_from(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for url in (str(file), file.as_uri()):
        with pytest.raises(StorageRefused, match="a file; expected"):
            open_store(url)
    store = open_store(str(tmp_path / "none"))
    with pytest.raises(StorageRefused, match="no such folder"):
        check_there(store)
    store.write("a", b"x")
    check_there(store)
