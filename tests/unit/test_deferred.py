from __future__ import annotations

import subprocess
import sys

import pytest

from bert_handler.deferred import deferred

HEAVY = "LOADED = True\ndef double(n): return 2 * n\nclass Frame: pass\n"
USER = """
import heavy_one as heavy
from heavy_one import double
def annotated() -> heavy.Frame: return heavy.Frame()
"""


def printed(code: str) -> list[str]:
    """The words that an interpreter of its own prints."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A module that uses another, imported while that one is put off."""
    (tmp_path / "heavy_one.py").write_text(HEAVY)
    (tmp_path / "user_of_it.py").write_text(USER)
    monkeypatch.syspath_prepend(tmp_path)
    with deferred("heavy_one"):
        import user_of_it
    assert "heavy_one" not in sys.modules
    yield user_of_it
    for name in ("heavy_one", "user_of_it"):
        sys.modules.pop(name, None)


def test_a_function_imports_when_it_is_called(user):
    assert user.double(4) == 8
    assert sys.modules["heavy_one"].LOADED


def test_the_module_is_itself_afterwards(user):
    assert user.heavy.LOADED is True
    assert isinstance(user.annotated(), sys.modules["heavy_one"].Frame)
    with pytest.raises(AttributeError, match="missing"):
        _ = user.heavy.missing


def test_what_is_imported_already_stays(user):
    import heavy_one

    with deferred("heavy_one"):
        assert sys.modules["heavy_one"] is heavy_one
    assert sys.modules["heavy_one"] is heavy_one


def test_what_is_not_installed_stays_missing():
    with deferred("no_such_module"), pytest.raises(ModuleNotFoundError):
        import no_such_module  # noqa: F401


def test_the_sdk_still_makes_data_frames():
    pytest.importorskip("kserve")
    code = (
        "import sys, bert_handler.kserve_model, kserve; assert 'pandas' not in sys.modules;"
        "part = kserve.InferInput('a', [2], 'INT32', data=[1, 2]);"
        "print(type(kserve.InferRequest('m', [part]).as_dataframe()).__module__.split('.')[0])"
    )
    assert printed(code) == ["pandas"]


def test_the_sdks_objects_of_kubernetes_come_when_they_are_made():
    pytest.importorskip("kserve")
    code = (
        "import sys, bert_handler.kserve_model, kserve;"
        "assert not [name for name in sys.modules if name.startswith('kserve.models')];"
        "print(kserve.V1beta1ModelFormat(name='bert').to_dict()['name']);"
        "print(kserve.models.V1beta1ModelFormat.__module__)"
    )
    assert printed(code) == ["bert", "kserve.models.v1beta1_model_format"]
