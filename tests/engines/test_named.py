"""Engines by their names."""

import pytest

from mmhealth.engines import LocalEngine, SerialEngine, parse_engine
from mmhealth.engines.local import available_cores
from mmhealth.errors import EngineError


def test_engines_have_names() -> None:
    assert isinstance(parse_engine("serial"), SerialEngine)
    assert parse_engine("local") == LocalEngine(available_cores())
    assert parse_engine("local:4") == LocalEngine(4)


@pytest.mark.parametrize(
    "name",
    ["", "locl", "local:", "local:0", "local:-1", "local:x", "serial:2", "ray:", "ray:x", "ray://"],
)
def test_other_names_are_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(EngineError, match="engines are serial, local, local:WORKERS, ray"):
        parse_engine(name)
