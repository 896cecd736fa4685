"""Wrapping methods of somebody's trainer, and waiting for its module."""

import sys
from types import SimpleNamespace

import pytest

from mmhealth.errors import AttachError
from mmhealth.integrations.live.hooking import check, hook, setting
from mmhealth.integrations.live.late import when_imported


class Trainer:
    def step(self, batch, scale=2):
        return batch * scale


def test_a_hooked_class_is_told_arguments_by_name_and_returns_the_same():
    class Mine(Trainer):
        pass

    told = []
    hook(Mine, "step", lambda given, result: told.append((given, result)))
    hook(Mine, "step", lambda *_: told.append("twice"))
    mine = Mine()
    assert mine.step(3, scale=5) == 15
    assert told == [({"self": mine, "batch": 3, "scale": 5}, 15)]
    assert Trainer().step(3) == 6
    assert len(told) == 1


def test_a_hooked_object_leaves_others_alone_and_before_comes_before():
    one, other, order = Trainer(), Trainer(), []
    hook(one, "step", lambda given, result: order.append((dict(given), result)), before=True)
    assert one.step(batch=4) == 8
    assert other.step(4) == 8
    assert order == [({"batch": 4}, None)]


def test_what_the_method_raises_is_raised_and_nothing_is_told():
    told = []
    mine = Trainer()
    hook(mine, "step", lambda *_: told.append("told"))
    with pytest.raises(TypeError):
        mine.step(None)
    assert told == []


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [("gone", (), r"it has no gone\(\)"), ("step", ("batch", "mask"), r"step\(\) takes no mask")],
)
def test_another_signature_is_refused_with_what_differs(name, parameters, said):
    with pytest.raises(AttachError, match=said) as caught:
        check(Trainer, name, parameters, "trainers 1.0")
    assert "Install trainers 1.0" in str(caught.value)
    check(Trainer(), "step", ("batch", "scale"), "trainers 1.0")


def test_settings_are_found_in_mappings_and_objects_and_may_lack():
    arguments = SimpleNamespace(algo={"kl": {"coef": 0.5}})
    assert setting(arguments, "algo.kl.coef") == 0.5
    assert setting(arguments, "algo.is.level") is None
    assert setting(None, "algo") is None


def test_a_module_is_met_when_it_is_imported_and_not_before(tmp_path, monkeypatch):
    (tmp_path / "met_later.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    seen = []
    finders = len(sys.meta_path)
    when_imported("met_later", lambda module: seen.append(module.value))
    assert seen == []
    assert "met_later" not in sys.modules
    import met_later

    monkeypatch.delitem(sys.modules, "met_later")
    assert seen == [1]
    assert len(sys.meta_path) == finders
    monkeypatch.setitem(sys.modules, "met_later", met_later)
    when_imported("met_later", lambda _: seen.append("at once"))
    assert seen == [1, "at once"]


def test_a_module_that_is_not_there_stays_not_there():
    when_imported("mmhealth_has_no_such_module", lambda _: pytest.fail("it is not there"))
    with pytest.raises(ModuleNotFoundError):
        import mmhealth_has_no_such_module  # noqa: F401
