"""The columns of a table: what each may be used for, and which are the image, the text and the label."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.registry import suggestion
from stoker.pipelines.tables.record_names import MAX_COLUMNS, is_fit, is_left_out

# "image": structs of bytes and path, as Hugging Face stores images; "images": lists of them; "binary": bare bytes, an
# image or anything else.
Kind = Literal["image", "images", "binary", "label", "text", "other"]
Use = Literal["image", "text", "label"]
_USUAL: Mapping[Use, tuple[str, ...]] = {
    "image": ("image", "img", "jpg", "png", "images"),
    "text": ("text", "content"),
    "label": ("label", "labels"),
}
_LISTS = ("list", "large_list", "fixed_size_list", "List", "LargeList", "Sequence", "unknown")
_PLAIN = ("int", "uint", "string", "large_string", "string_view")  # types that have always been read as they are


@dataclass(frozen=True, slots=True)
class Column:
    """The use of a column, the class names of a label, and what its values are."""

    kind: Kind
    names: tuple[str, ...] = ()  # class names of a label, by number
    holds: str = ""  # the type, as Arrow or the features name it


def columns_of(features: Mapping[str, Any]) -> dict[str, Column]:  # Any: JSON values
    """The columns by name, from the features that the ``datasets`` library writes.

    >>> columns_of({"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}})["label"].names
    ('cat', 'dog')
    >>> columns_of({"pages": {"feature": {"_type": "Image"}, "_type": "List"}})["pages"].kind
    'images'
    """
    return {name: _column_of_feature(feature) for name, feature in features.items()}


def _column_of_feature(feature: object) -> Column:
    if isinstance(feature, list):  # as older versions of the library write a list
        feature = {"_type": "List", "feature": feature[0] if feature else None}
    if not isinstance(feature, dict):
        return Column("other", holds="unknown")
    kind, dtype = str(feature.get("_type", "")), str(feature.get("dtype", ""))
    if kind == "Image":
        return Column("image", holds="Image")
    if kind == "ClassLabel":
        return Column("label", tuple(map(str, feature.get("names") or ())), "ClassLabel")
    if kind in ("List", "LargeList", "Sequence"):
        inner = _column_of_feature(feature.get("feature"))
        return Column("images" if inner.kind == "image" else "other", holds=f"{kind} of {inner.holds}")
    if kind == "Value":
        text = dtype in ("string", "large_string", "string_view")
        return Column("text" if text else "binary" if dtype in ("binary", "large_binary") else "other", holds=dtype)
    return Column("other", holds=kind or "unknown")


def column_of_type(kind: pa.DataType) -> Column:
    """The column by its Arrow type alone."""
    holds = str(kind)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return Column("binary", holds=holds)
    if _is_image(kind):
        return Column("image", holds=holds)
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_image(kind.value_type):
        return Column("images", holds=holds)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return Column("text", holds=holds)
    return Column("other", holds=holds)


def _is_image(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and "bytes" in [field.name for field in kind]


@dataclass(frozen=True)
class ColumnChoice:
    """Which columns are read, and for what."""

    columns: Mapping[str, Column]  # all of the table
    image: str = ""
    text: str = ""
    label: str = ""
    extra: Sequence[str] = ()  # those for the record
    named: bool = True  # the options name those for the record; else they are all others that a record can hold
    unfit: Sequence[str] = ()  # those that a record could hold but for their names, or their number
    key: str = ""

    @property
    def read(self) -> tuple[str, ...]:
        """The columns that are read."""
        return tuple(name for name in dict.fromkeys((*self._uses, *self.extra)) if name)

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns without which there is no sample: those that are used or named."""
        return self.read if self.named else tuple(name for name in self._uses if name)

    @property
    def _uses(self) -> tuple[str, ...]:
        return self.image, self.text, self.label, self.key

    def describe(self) -> str:
        """One line for people: each use and its column, then the columns that are not read."""
        uses = {"image": self.image, "text": self.text, "label": self.label}
        said = [f"{use} = {name} ({self.columns[name].holds})" if name else f"no {use}" for use, name in uses.items()]
        said += [f"key = {self.key} ({self.columns[self.key].holds})"] if self.key else []
        said += [f"columns = {', '.join(self.extra)}"] if self.extra else []
        unread = [name for name in self.columns if name not in (*self._uses, *self.extra)]
        return "; ".join([*said, *([f"not read: {', '.join(unread)}"] if unread else [])])

    @property
    def mark(self) -> dict[str, int]:
        """For payloads of partitions that earlier versions read in another way. All others need not be read again."""
        kinds = {name: column.kind for name, column in self.columns.items()}
        usual = [name for name in ("image", "img", "jpg", "png") if kinds.get(name) in ("image", "binary")]
        first = [name for name, kind in kinds.items() if kind in ("image", "binary")]
        label = self.columns[self.label].holds if self.label else "string"
        same_label = label == "ClassLabel" or label.startswith(_PLAIN)
        extra = all(self.columns[name].holds.startswith((*_PLAIN, "bool", "float", "double")) for name in self.extra)
        # Earlier versions left out what no option names, and wrote lists as such into Parquet.
        if self.extra and (not self.named or any(self.columns[name].holds.startswith(_LISTS) for name in self.extra)):
            return {"reading": 3}
        same = self.image == next(iter([*usual, *first]), "") and same_label and extra
        return {} if same else {"reading": 2}


def choose_columns(
    columns: Mapping[str, Column],
    *,
    image: str,
    text: str,
    label: str,
    extra: Iterable[str],
    leave_out: Sequence[str] = (),
    key: str = "",
) -> ColumnChoice:
    """The columns for image, text and label: those that the options name, else by their names and types.

    Without ``extra`` all other columns are for the record, but for bytes, images and those that ``leave_out`` names. A
    struct with bytes is an image before bare bytes are. Bare bytes of an unusual name are one only in a table without
    a text. ``key`` tells the rows apart. Raises RecipeError for a name that is not there, for a pattern without a
    column, for several columns of bare bytes, and for none of use.
    """
    extra = tuple(extra)
    for name in (image, text, label, key, *extra, *leave_out):
        is_there = name in columns or (name in leave_out and any(is_left_out(column, (name,)) for column in columns))
        if name and not is_there:
            raise RecipeError(f"source 'hugging_face': no column {name!r}; {suggestion(name, sorted(columns))}")
    text_choice = text or next(
        (name for name in _USUAL["text"] if name in columns and columns[name].kind == "text"), ""
    )
    label_choice = label or next(iter([*_of_name(columns, "label"), *_of_kind(columns, "label")]), "")
    images = [name for name in _of_name(columns, "image") if columns[name].kind in ("image", "images", "binary")]
    images += _of_kind(columns, "image") + _of_kind(columns, "images")
    if not image and not images and not text_choice:
        images = [name for name in _of_kind(columns, "binary") if name not in (label_choice, *extra)]
        if len(images) > 1:
            raise RecipeError(f"source 'hugging_face': which column is the image: {', '.join(images)}? Set image")
    image_choice = image or next((name for name in images if name not in (text, label)), "")
    if image and columns[image].kind not in ("image", "images", "binary"):
        raise RecipeError(
            f"source 'hugging_face': image = {image!r}: the column holds {columns[image].holds}, no images"
        )
    if not image_choice and not text_choice:
        raise RecipeError(f"source 'hugging_face': name an image or text column; the columns are: {', '.join(columns)}")
    if label_choice and columns[label_choice].kind in ("image", "images", "binary"):
        raise RecipeError(
            f"source 'hugging_face': label {label_choice!r} holds {columns[label_choice].holds}; set label"
        )
    if key and columns[key].kind in ("image", "images", "binary"):
        raise RecipeError(f"source 'hugging_face': key {key!r} holds {columns[key].holds}; set key to a column of ids")
    if extra:
        kept = tuple(name for name in extra if not is_left_out(name, leave_out))
        return ColumnChoice(columns, image_choice, text_choice, label_choice, kept, key=key)
    others = [name for name, column in columns.items() if column.kind not in ("image", "images", "binary")]
    unused = [name for name in others if name not in (image_choice, text_choice, label_choice)]
    unused = [name for name in unused if not is_left_out(name, leave_out)]
    kept = tuple(name for name in unused if is_fit(name))[:MAX_COLUMNS]
    unfit = tuple(name for name in unused if name not in set(kept))
    return ColumnChoice(columns, image_choice, text_choice, label_choice, kept, named=False, unfit=unfit, key=key)


def _of_name(columns: Mapping[str, Column], use: Use) -> list[str]:
    return [name for name in _USUAL[use] if name in columns]


def _of_kind(columns: Mapping[str, Column], kind: Kind) -> list[str]:
    return [name for name, column in columns.items() if column.kind == kind]
