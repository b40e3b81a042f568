"""Where the real photographs, films and wiki dumps lie that some tests use, if this machine has them."""

from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
SHARED: Path | None = _BESIDE if _BESIDE.is_dir() else None
needs_shared = pytest.mark.skipif(SHARED is None, reason="no folder shared/data beside the repository")
CASES: Path | None = _BESIDE.parent / "cases" if (_BESIDE.parent / "cases").is_dir() else None
needs_cases = pytest.mark.skipif(CASES is None, reason="no folder shared/cases beside the repository")
