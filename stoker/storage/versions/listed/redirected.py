"""What manifests name, as it is now: objects that a purge wrote anew are read in the place of those that are gone."""

from collections.abc import Mapping
from dataclasses import replace

from stoker.storage.versions.listed.lists import ListFile
from stoker.storage.versions.listed.named import Decisions, Part, Shard
from stoker.storage.versions.memory.withdrawn import Replaced

Redirects = Mapping[str, Replaced]  # by the key of what is gone


def shard_now(shard: Shard, redirects: Redirects) -> Shard:
    """The shard with the tar and the index that are there now."""
    tar, index = redirects.get(shard.key), redirects.get(shard.index)
    now = shard
    if tar is not None:
        now = replace(now, key=tar.new, sha256=tar.sha256, size=tar.size)
    if index is not None:
        now = replace(now, index=index.new, index_sha256=index.sha256, index_size=index.size)
    return shard if now is shard else replace(now, before=shard.before or shard)


def part_now(part: Part, redirects: Redirects) -> Part:
    """The raw part with the tar and the records that are there now."""
    tar, records = redirects.get(part.tar), redirects.get(part.records)
    if tar is not None:
        part = replace(part, tar=tar.new, tar_sha256=tar.sha256)
    if any(key in redirects for key in part.originals):
        part = replace(part, originals=tuple(originals_now(key, redirects) for key in part.originals))
    return part if records is None else replace(part, records=records.new, records_sha256=records.sha256)


def originals_now(key: str, redirects: Redirects) -> str:
    """The key of a tar of originals that is there now."""
    return redirects[key].new if key in redirects else key


def decisions_now(decisions: Decisions, redirects: Redirects) -> Decisions:
    """The decisions that are there now."""
    now = redirects.get(decisions.key)
    return decisions if now is None else replace(decisions, key=now.new, size=now.size, sha256=now.sha256)


def list_now(file: ListFile, redirects: Redirects) -> ListFile:
    """The list that is there now."""
    now = redirects.get(file.key)
    return file if now is None else replace(file, key=now.new, size=now.size, sha256=now.sha256)
