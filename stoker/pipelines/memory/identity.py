"""The identity of a candidate: what tells it from all others of its source, the same in every run.

==================  =====================================================================
``image_urls``      the URL in its normal form
``local_files``     the path below the folder that the recipe names
``wikipedia_dump``  wiki and page id
``video_frames``    the video's URL or path, and the frame's time
``hugging_face``    the value of the column ``key``; without one, the row's image and text
==================  =====================================================================

All but the last make the sample's key of it, so that a key says which candidate it is. Rows of a table without a column
``key`` have their number as key, and their identity in a column of its own.
"""

from collections.abc import Mapping

STAMP = "candidate_stamp"  # column of the records of raw parts: ``Candidate.stamp``
IDENTITY = "candidate_identity"  # column of the records of raw parts, of candidates whose key does not identify them


def identity_of(record: Mapping[str, object]) -> tuple[str, str]:
    """The source and the identity of a candidate, from its record in a raw part, also of one written before.

    >>> identity_of({"source": "image_urls", "key": "4fd63207a70baba7076795ee"})
    ('image_urls', '4fd63207a70baba7076795ee')
    """
    return str(record.get("source") or ""), str(record.get(IDENTITY) or record["key"])
