"""Identify the language of texts, and keep the chosen languages."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from stoker.pipelines.registry import suggestion
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.step import Step
from stoker.pipelines.text.languages import identify_language, known_languages
from stoker.storage.shards.sample import Sample


@dataclass(frozen=True)
class Language(Step):
    """Identify the language of each text, and reject texts in other languages than those in ``keep``.

    The language is written to the record as ``detected_language``, its confidence to ``language_confidence``;
    ``language``, which the source knows, stays, and ``language_matches`` says whether both are the same. A text whose
    confidence is below ``threshold`` is rejected; without ``keep`` it stays, with ``detected_language`` empty.

    Args:
        keep: list of ISO 639 codes, default none: the languages to keep; none keeps all.
        threshold: 0 to 1, default 0.6: the least confidence.

    Example::

        [[steps]]
        name = "language"
        keep = ["en"]
        threshold = 0.6
    """

    version: ClassVar[int] = 2

    keep: tuple[str, ...] = ()
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.6

    def __post_init__(self) -> None:
        known = known_languages() if self.keep else frozenset()  # the model is loaded only if it is needed
        for code in self.keep:
            if code not in known:
                raise ValueError(f"keep: no language {code!r} is known here; {suggestion(code, sorted(known))}")

    def applies_to(self, sample: Sample, /) -> bool:
        """See Step: to texts."""
        return "txt" in sample.fields

    def __call__(self, sample: Sample, /) -> Sample | Rejected:
        """See Step."""
        if "txt" not in sample.fields:
            return sample
        try:
            text = sample.fields["txt"].decode("utf-8")
        except UnicodeDecodeError as error:
            return Rejected("not_utf8", f"byte {error.start}")
        language, confidence = identify_language(text)
        confident = language if confidence >= self.threshold else ""
        if self.keep and confident not in self.keep:
            actual = f"{language} ({confidence:.2f})" if language else "none that is known"
            return Rejected("wrong_language", f"found {actual}, expected {', '.join(self.keep)}")
        record = dict(sample.record) | {"detected_language": confident}
        own = str(sample.record.get("language") or "").lower()
        if own and confident:
            record["language_matches"] = _SAME.get(own, own.partition("-")[0]) == confident
        return replace(sample, record=record, measures=dict(sample.measures) | {"language_confidence": confidence})


_SAME = {"simple": "en", "nb": "no"}  # codes of wikis, and those of the model
