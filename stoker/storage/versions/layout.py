"""Keys of a corpus's objects in a store. No other module builds keys.

::

    <corpus>/raw/<digest>/part-<sha16>.tar          what was fetched and kept
    <corpus>/raw/<digest>/records-<sha16>.parquet   one row per candidate, kept or rejected
    <corpus>/raw/<digest>/part.json                 written last: the part is complete
    <corpus>/raw/<digest>/originals-<sha16>.tar     its candidates' bytes as they were fetched, if they are kept
    <corpus>/raw/<digest>/segment-00000-<sha16>.tar  what a part that is not complete has so far
    <corpus>/decisions/<sha16>.parquet              what the rules decided
    <corpus>/shards/<digest>/train-00000.tar        samples for training
    <corpus>/shards/<digest>/train-00000.parquet    its index
    <corpus>/shards/<digest>/train-00000-<sha16>.tar  what a purge wrote in its place; of an index too
    <corpus>/shards/<digest>/group.json             written last: the group is complete
    <corpus>/masks/<digest>-<sha16>.mask            which rows of a group of shards a version leaves out
    <corpus>/lists/shards-<sha16>.parquet           what a manifest or ledger head names: shards, raw parts, ...
    <corpus>/lists/lookup-<sha16>.parquet           which records and indexes have a key, URL or checksum
    <corpus>/versions/00000007.json                 a manifest: the version exists
    <corpus>/versions/00000007.deleted              the version is gone, and its number is never used again
    <corpus>/memory/00000007.json                   a ledger head: what of the following counts
    <corpus>/outcomes/<sha16>.parquet               what became of each candidate, sorted by its hash
    <corpus>/plans/partitions-<sha16>.parquet       the partitions of a run
    <corpus>/plans/00000007.json                    written after them: the plan is complete
    <corpus>/tombstones/00000007.parquet            hashes of what the owner took out
    <corpus>/tombstones/00000007.json               its witness: checksums of all files so far
    <corpus>/withdrawn/00000007.json                what a purge wrote anew, and where it lies now
    <corpus>/proofs.parquet                         when the newest version's objects were last proven, by change token
    <corpus>/runs/<run>/...                         training runs
    <corpus>/studies/00000007-quick.json            what methods of learning reach on a version
    <corpus>/runs/<run>/evaluations/...             what they came to: <reference>-<split>-<step>.json
    <corpus>/work/ingest-<random>.json              lease of a running ingest (or gc)
"""

import re

DIGEST = 32  # hex digits of a digest in keys: 128 bits, so none collide
_SHORT = 16  # hex digits of a content hash, for different outputs of one digest
_MAX_DIGITS = 18  # of a shard's number: what 64 bits hold
STUDIES = ("quick", "full")
_VERSION = 8  # digits, so that the order of keys is that of versions up to 99,999,999


def raw(corpus: str) -> str:
    """The folder of a corpus' raw parts, with a slash at its end."""
    return f"{corpus}/raw/"


def raw_folder(corpus: str, digest: str) -> str:
    """The folder of one raw part, with a slash at its end."""
    return f"{raw(corpus)}{digest}/"


def folder_of(key: str) -> str:
    """The folder of an object of a raw part or a group, with a slash at its end.

    >>> folder_of("digits/raw/0123/part-4567.tar")
    'digits/raw/0123/'
    """
    return key[: key.rindex("/") + 1]


def raw_tar(corpus: str, digest: str, sha256: str) -> str:
    """The tar of a raw part, named by its content, so that concurrent writers cannot mix their bytes."""
    return f"{raw_folder(corpus, digest)}part-{sha256[:_SHORT]}.tar"


def raw_records(corpus: str, digest: str, sha256: str) -> str:
    """The records of a raw part, named by their content."""
    return f"{raw_folder(corpus, digest)}records-{sha256[:_SHORT]}.parquet"


def raw_originals(corpus: str, digest: str, sha256: str) -> str:
    """Bytes of a raw part's candidates as they were fetched, named by the content of the tar that holds them."""
    return f"{raw_folder(corpus, digest)}originals-{sha256[:_SHORT]}.tar"


def is_originals(key: str) -> bool:
    """Whether the key is that of a tar of originals.

    >>> is_originals(raw_originals("digits", "01234567" * 4, "89abcdef" * 8)), is_originals("digits/raw/0123/part.json")
    (True, False)
    """
    return key[key.rfind("/") + 1 :].startswith("originals-") and is_ours(key)


def raw_part(corpus: str, digest: str) -> str:
    """The marker of a raw part, written last: it exists when the part is complete."""
    return f"{raw_folder(corpus, digest)}part.json"


def raw_segment(corpus: str, digest: str, number: int, sha256: str) -> str:
    """Some of the finished candidates of a part that is not complete, named by their number and content."""
    return f"{raw_segments(corpus, digest)}{number:05d}-{sha256[:_SHORT]}.tar"


def raw_segments(corpus: str, digest: str) -> str:
    """What the keys of a part's segments begin with."""
    return f"{raw_folder(corpus, digest)}segment-"


def segment_number(key: str) -> int:
    """The number of a segment.

    >>> segment_number(raw_segment("digits", "01234567" * 4, 7, "89abcdef" * 8))
    7
    """
    return int(key[key.rfind("/") + 1 :].split("-")[1])


def is_segment(key: str) -> bool:
    """Whether the key is that of a segment.

    >>> is_segment(raw_segment("digits", "01234567" * 4, 0, "89abcdef" * 8)), is_segment("digits/raw/0123/part.json")
    (True, False)
    """
    return key[key.rfind("/") + 1 :].startswith("segment-") and is_ours(key)


def decisions(corpus: str, sha256: str) -> str:
    """What the rules decided, named by its content."""
    return f"{corpus}/decisions/{sha256[:_SHORT]}.parquet"


def version_list(corpus: str, kind: str, sha256: str) -> str:
    """A list that manifests and ledger heads name, named by its content.

    >>> version_list("digits", "shards", "0123456789abcdef0123")
    'digits/lists/shards-0123456789abcdef.parquet'
    """
    return f"{corpus}/lists/{kind}-{sha256[:_SHORT]}.parquet"


def group_folder(corpus: str, digest: str) -> str:
    """The folder of one group of shards, with a slash at its end."""
    return f"{corpus}/shards/{digest}/"


def shard(corpus: str, digest: str, split: str, number: int) -> str:
    """A shard of a group.

    >>> shard("digits", "0123", "train", 7)
    'digits/shards/0123/train-00007.tar'
    """
    return f"{group_folder(corpus, digest)}{split}-{number:05d}.tar"


def index(corpus: str, digest: str, split: str, number: int) -> str:
    """The index of a shard, beside it."""
    return f"{group_folder(corpus, digest)}{split}-{number:05d}.parquet"


def number_in_group(key: str) -> int:
    """The number of a shard or index; 0 where the name has none.

    >>> number_in_group("digits/shards/0123/train-00007.parquet"), number_in_group("notes.txt")
    (7, 0)
    """
    digits = key.rpartition("-")[2].partition(".")[0]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS else 0


def group(corpus: str, digest: str) -> str:
    """The marker of a group, written last: it exists when the group is complete."""
    return f"{group_folder(corpus, digest)}group.json"


def masks(corpus: str) -> str:
    """The folder of a corpus' masks, with a slash at its end."""
    return f"{corpus}/masks/"


def mask(corpus: str, digest: str, sha256: str) -> str:
    """The mask of a group of shards, named by the group and its content.

    >>> mask("digits", "0123", "456789abcdef01234567")
    'digits/masks/0123-456789abcdef0123.mask'
    """
    return f"{masks(corpus)}{digest}-{sha256[:_SHORT]}.mask"


def versions(corpus: str) -> str:
    """The folder of a corpus' manifests, with a slash at its end."""
    return f"{corpus}/versions/"


def version(corpus: str, number: int) -> str:
    """The manifest of a version.

    >>> version("digits", 2)
    'digits/versions/00000002.json'
    """
    return f"{versions(corpus)}{number:0{_VERSION}d}.json"


def deleted(corpus: str, number: int) -> str:
    """The marker of a version that was deleted.

    >>> deleted("digits", 2)
    'digits/versions/00000002.deleted'
    """
    return f"{versions(corpus)}{number:0{_VERSION}d}.deleted"


def version_of(key: str) -> int | None:
    """The version whose manifest has this key; None for other keys.

    >>> version_of("digits/versions/00000002.json"), version_of("digits/versions/readme.txt")
    (2, None)
    """
    return _number_of(key, ".json")


def deleted_of(key: str) -> int | None:
    """The version that the object with this key marks as deleted; None for other keys.

    >>> deleted_of("digits/versions/00000002.deleted"), deleted_of("digits/versions/00000002.json")
    (2, None)
    """
    return _number_of(key, ".deleted")


def _number_of(key: str, suffix: str) -> int | None:
    name = key[key.rfind("/") + 1 :]
    digits = name.removesuffix(suffix)
    if not name.endswith(suffix) or len(digits) < _VERSION or not (digits.isascii() and digits.isdigit()):
        return None
    return int(digits)


def ledgers(corpus: str) -> str:
    """The folder of a corpus' ledger heads, with a slash at its end."""
    return f"{corpus}/memory/"


def ledger(corpus: str, number: int) -> str:
    """The ledger head of a number.

    >>> ledger("digits", 2)
    'digits/memory/00000002.json'
    """
    return f"{ledgers(corpus)}{number:0{_VERSION}d}.json"


def outcomes_folder(corpus: str) -> str:
    """The folder of files of outcomes, with a slash at its end."""
    return f"{corpus}/outcomes/"


def outcomes(corpus: str, sha256: str) -> str:
    """A file of outcomes, named by its content."""
    return f"{outcomes_folder(corpus)}{sha256[:_SHORT]}.parquet"


def plans(corpus: str) -> str:
    """The folder of a corpus' plans, with a slash at its end."""
    return f"{corpus}/plans/"


def plan(corpus: str, number: int) -> str:
    """A plan, written after its partitions.

    >>> plan("digits", 2)
    'digits/plans/00000002.json'
    """
    return f"{plans(corpus)}{number:0{_VERSION}d}.json"


def plan_partitions(corpus: str, sha256: str) -> str:
    """The partitions of a plan, named by their content."""
    return f"{plans(corpus)}partitions-{sha256[:_SHORT]}.parquet"


def tombstones_folder(corpus: str) -> str:
    """The folder of a corpus' tombstones, with a slash at its end."""
    return f"{corpus}/tombstones/"


def tombstones(corpus: str, number: int) -> str:
    """A file of tombstones.

    >>> tombstones("digits", 2)
    'digits/tombstones/00000002.parquet'
    """
    return f"{tombstones_folder(corpus)}{number:0{_VERSION}d}.parquet"


def witness(corpus: str, number: int) -> str:
    """The witness of a file of tombstones, beside it.

    >>> witness("digits", 2)
    'digits/tombstones/00000002.json'
    """
    return f"{tombstones_folder(corpus)}{number:0{_VERSION}d}.json"


def withdrawn_folder(corpus: str) -> str:
    """The folder of what purges did, with a slash at its end."""
    return f"{corpus}/withdrawn/"


def withdrawn(corpus: str, number: int) -> str:
    """What one purge did.

    >>> withdrawn("digits", 2)
    'digits/withdrawn/00000002.json'
    """
    return f"{withdrawn_folder(corpus)}{number:0{_VERSION}d}.json"


def purged(key: str, sha256: str) -> str:
    """What a purge writes in the place of an object: beside it, and named by its content.

    >>> purged("digits/shards/0123/train-00007.tar", "89abcdef" * 8)
    'digits/shards/0123/train-00007-89abcdef89abcdef.tar'
    >>> purged("digits/raw/0123/part-0123456789abcdef.tar", "89abcdef" * 8)
    'digits/raw/0123/part-89abcdef89abcdef.tar'
    >>> purged(decisions("digits", "01234567" * 8), "89abcdef" * 8) == decisions("digits", "89abcdef" * 8)
    True
    """
    stem, _, suffix = key.rpartition(".")
    folder, slash, name = _CONTENT_NAME.sub("", stem).rpartition("/")
    return f"{folder}{slash}{name}{'-' * bool(name)}{sha256[:_SHORT]}.{suffix}"


def number_of(key: str) -> int | None:
    """The number that names a ledger head, plan, file of tombstones or purge; None for other keys.

    >>> number_of("digits/tombstones/00000002.parquet"), number_of("digits/plans/partitions-0123456789abcdef.parquet")
    (2, None)
    """
    return _number_of(key, ".json") or _number_of(key, ".parquet")


def proofs(corpus: str) -> str:
    """What an ingest remembers of the objects that it proved: no version depends on it."""
    return f"{corpus}/proofs.parquet"


def runs(corpus: str) -> str:
    """The folder of a corpus' training runs, with a slash at its end."""
    return f"{corpus}/runs/"


def run(corpus: str, name: str) -> str:
    """The folder of one training run's checkpoints and metrics, with a slash at its end."""
    return f"{runs(corpus)}{name}/"


def studies(corpus: str) -> str:
    """The folder of studies of a corpus' versions, with a slash at its end."""
    return f"{corpus}/studies/"


def study(corpus: str, number: int, kind: str) -> str:
    """A study of a version, of a kind in ``STUDIES``.

    >>> study("digits", 2, "quick")
    'digits/studies/00000002-quick.json'
    """
    return f"{studies(corpus)}{number:0{_VERSION}d}-{kind}.json"


def study_of(key: str) -> tuple[int, str] | None:
    """The version and the kind of the study with this key; None for other keys.

    >>> study_of("digits/studies/00000002-quick.json"), study_of("digits/studies/readme.txt")
    ((2, 'quick'), None)
    """
    match = _STUDY.search(key)
    return (int(match[1]), match[2]) if match else None


def evaluations(corpus: str, name: str) -> str:
    """The folder of what a training run came to on splits of versions, with a slash at its end."""
    return f"{run(corpus, name)}evaluations/"


def evaluation(corpus: str, name: str, reference: str, split: str, step: int) -> str:
    """What the checkpoint of a step came to on a split of a version.

    >>> evaluation("digits", "cnn-0001", "digits@2", "test", 120)
    'digits/runs/cnn-0001/evaluations/digits@2-test-000000120.json'
    """
    return f"{evaluations(corpus, name)}{reference}-{split}-{step:09d}.json"


def leases(corpus: str) -> str:
    """The folder of the leases on a corpus, with a slash at its end."""
    return f"{corpus}/work/"


def lease(corpus: str, kind: str, name: str) -> str:
    """The lease of a running ingest or gc.

    >>> lease("digits", "ingest", "0123")
    'digits/work/ingest-0123.json'
    """
    return f"{leases(corpus)}{kind}-{name}.json"


_STUDY = re.compile(rf"/studies/([0-9]{{{_VERSION},}})-({'|'.join(STUDIES)})\.json\Z")
_CONTENT_NAME = re.compile(rf"(?:-|(?<=/))[0-9a-f]{{{_SHORT}}}\Z")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_OURS = re.compile(
    rf"{_NAME.pattern}/(?:raw/[0-9a-f]{{{DIGEST}}}/(?:(?:part|records|originals)-[0-9a-f]{{{_SHORT}}}\.(?:tar|parquet)|part\.json"
    rf"|segment-[0-9]{{5,}}-[0-9a-f]{{{_SHORT}}}\.tar)"
    rf"|shards/[0-9a-f]{{{DIGEST}}}/(?:[a-z0-9_-]+-[0-9]{{5,}}(?:-[0-9a-f]{{{_SHORT}}})?\.(?:tar|parquet)|group\.json)"
    rf"|masks/[0-9a-f]{{{DIGEST}}}-[0-9a-f]{{{_SHORT}}}\.mask|lists/[a-z]+-[0-9a-f]{{{_SHORT}}}\.parquet"
    rf"|decisions/[0-9a-f]{{{_SHORT}}}\.parquet|work/(?:ingest|gc)-[0-9a-f]{{{DIGEST}}}\.json"
    rf"|memory/[0-9]{{{_VERSION},}}\.json|outcomes/[0-9a-f]{{{_SHORT}}}\.parquet"
    rf"|studies/[0-9]{{{_VERSION},}}-(?:{'|'.join(STUDIES)})\.json"
    rf"|plans/(?:[0-9]{{{_VERSION},}}\.json|partitions-[0-9a-f]{{{_SHORT}}}\.parquet))"
)
_PERMANENT = re.compile(
    rf"{_NAME.pattern}/(?:versions/[0-9]{{{_VERSION},}}\.(?:json|deleted)|tombstones/[0-9]{{{_VERSION},}}\.(?:parquet|json)"
    rf"|withdrawn/[0-9]{{{_VERSION},}}\.json)"
)


def is_corpus(name: str) -> bool:
    """Whether the text is a valid corpus name.

    >>> is_corpus("digits"), is_corpus("_probe")
    (True, False)
    """
    return _NAME.fullmatch(name) is not None


def is_ours(key: str) -> bool:
    """Whether the key is one of those that ingests and gc create, other than those that stay for ever.

    >>> is_ours("digits/decisions/0123456789abcdef.parquet"), is_ours("digits/notes.txt"), is_ours("digits/runs/a/b")
    (True, False, False)
    >>> is_ours(purged(shard("digits", "01234567" * 4, "train", 7), "89abcdef" * 8))
    True
    """
    return _OURS.fullmatch(key) is not None


def is_permanent(key: str) -> bool:
    """Whether the key is of what gc never removes: manifests, markers of deleted versions, tombstones, purges.

    >>> is_permanent("digits/versions/00000002.json"), is_permanent("digits/memory/00000002.json")
    (True, False)
    """
    return _PERMANENT.fullmatch(key) is not None
