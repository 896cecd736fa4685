import os
from pathlib import Path

import pytest

from mmhealth.errors import RunNotFoundError
from mmhealth.fleet import find_runs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/one", "a/two", "b/deep/three"):
        (tmp_path / name / "steps").mkdir(parents=True)
        (tmp_path / name / "run.json").write_text("{}", encoding="utf-8")
    (tmp_path / "a" / "notes").mkdir()
    (tmp_path / "a" / "log.txt").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["a/*"], ["a/one", "a/two"]),
        (["a/t*", "a/one"], ["a/one", "a/two"]),
        (["**"], ["a/one", "a/two", "b/deep/three"]),
        (["b/**"], ["b/deep/three"]),
        (["*/[ot]*"], ["a/one", "a/two"]),
        (["."], ["a/one", "a/two", "b/deep/three"]),
        (["b"], ["b/deep/three"]),
        (["a/one", "a/../a/one", "a/*e"], ["a/one"]),
    ],
)
def test_patterns_folders_and_runs_give_each_run_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], found: list[str]
) -> None:
    monkeypatch.chdir(folder)
    assert find_runs(given) == [Path(name) for name in found]
    absolute = [str(folder / text) for text in given]
    assert [path.resolve() for path in find_runs(absolute)] == [folder / name for name in found]


def test_a_path_that_is_no_run_is_kept_for_its_row(folder: Path) -> None:
    for name in ("nothing", "a/log.txt", "a/notes"):
        assert find_runs([folder / name]) == [folder / name]


@pytest.mark.parametrize("pattern", ["nothing*", "a/n*", "a/*.txt"])
def test_a_pattern_without_a_run_is_an_error_that_says_so(folder: Path, pattern: str) -> None:
    with pytest.raises(RunNotFoundError, match="no run directory matches"):
        find_runs([str(folder / pattern)])


def test_a_folder_that_one_may_not_look_into_is_kept_for_its_row(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "a")
    folder.joinpath("a").chmod(0o755)
    Path("two").chmod(0o700 if (is_root := os.geteuid() == 0) else 0)
    if is_root:
        os.seteuid(65534)
    try:
        assert find_runs(["*"]) == [Path("one"), Path("two")]
    finally:
        if is_root:
            os.seteuid(0)
        Path("two").chmod(0o755)


def test_a_run_whose_name_looks_like_a_pattern_is_found(folder: Path) -> None:
    odd = folder / "a" / "lr[1e-5]"
    odd.mkdir()
    (odd / "run.json").write_text("{}", encoding="utf-8")
    assert find_runs([odd]) == [odd]
