"""Contracts: classes of tests that a store, source, step, rule or model has to pass. Needs pytest."""

import pkgutil

import pytest

# Without it a failing check of a contract would show no values: pytest rewrites only the asserts of test modules.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
