"""Nothing in the package reads or writes a pickle."""

from __future__ import annotations

import ast
from typing import Any

import pytest

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
HARMLESS_NAMES = {"PickleError", "UnpicklingError"}  # what a refusing torch.load raises
FORBIDDEN_CALLS = {"torch.save", "pandas.read_pickle", "pd.read_pickle"}


def _violations(tree: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            found += [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in HARMLESS_NAMES]
        elif isinstance(node, ast.Call):
            name, options = ast.unparse(node.func), {word.arg: word.value for word in node.keywords}
            is_safe_load = (
                isinstance(options.get("weights_only"), ast.Constant) and options["weights_only"].value is True
            )
            allows_pickle = options.get("allow_pickle")
            is_plain = allows_pickle is None or (isinstance(allows_pickle, ast.Constant) and not allows_pickle.value)
            if name in FORBIDDEN_CALLS or (name == "torch.load" and not is_safe_load) or not is_plain:
                found.append(f"{name} in line {node.lineno}")
    return found


def test_no_pickle(sources: list[Any]) -> None:
    assert not {str(source.path): found for source in sources if (found := _violations(source.tree))}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "def f():\n    from joblib import dump",
        "torch.save(x, 'f')",
        "torch.load('f')",
        "torch.load('f', weights_only=False)",
        "np.load('f', allow_pickle=True)",
    ],
)
def test_the_check_itself_can_fail(code: str) -> None:
    assert _violations(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "from pickle import UnpicklingError",
        "torch.load('f', weights_only=True)",
        "np.load('f')",
        "np.load('f', allow_pickle=False)",
    ],
)
def test_safe_reads_pass(code: str) -> None:
    assert not _violations(ast.parse(code))
