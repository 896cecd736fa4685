"""What holds for all estimators together."""

import ast
import sys
from pathlib import Path

import pytest

from mmhealth import estimators

FILES = sorted(Path(estimators.__file__).parent.glob("*.py"))
ALLOWED = ("mmhealth.errors", "mmhealth.estimators", "numpy")


def test_public_names_exist_and_are_documented():
    for name in estimators.__all__:
        value = getattr(estimators, name)
        assert not callable(value) or value.__doc__


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_only_numpy_and_the_standard_library_are_imported(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module]
        for name in names:
            known = name.split(".")[0] in sys.stdlib_module_names
            assert known or name.startswith(ALLOWED), f"{file.name} imports {name}"
