"""A stand-in for verl 0.9.1: its plugin discovery, and the methods and fields that are hooked."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILES = {
    "mmhealth_entry-0.dist-info/METADATA": (
        "Metadata-Version: 2.1\nName: mmhealth-entry\nVersion: 0\n"
    ),
    "mmhealth_entry-0.dist-info/entry_points.txt": (
        "[verl.plugins]\nmmhealth = mmhealth.integrations.verl.plugin\n"
    ),
    "verl/__init__.py": """
import logging
from importlib.metadata import entry_points

for found in {point.value: point for point in entry_points(group="verl.plugins")}.values():
    try:
        found.load()
    except Exception as error:
        logging.getLogger(__name__).debug("Failed to load plugin %s", error)
""",
    "verl/trainer/__init__.py": "",
    "verl/trainer/ppo/__init__.py": "",
    "verl/trainer/ppo/v1/__init__.py": "",
    "verl/trainer/ppo/v1/trainer_base.py": """
from types import SimpleNamespace

QUEUE = {}


def kv_batch_get(keys, partition_id, select_fields):
    return {name: QUEUE[name] for name in select_fields if name in QUEUE}


tq = SimpleNamespace(kv_batch_get=kv_batch_get)


class PPOTrainer:
    def __init__(self, config, steps):
        self.config, self.steps = config, steps

    def fit(self, agent_loop_manager):
        for step, batch, queue, metrics in self.steps:
            QUEUE.clear()
            QUEUE.update(queue)
            self._compute_metrics(batch, metrics, {}, global_steps=step, epoch=0)
        return "trained"

    def _compute_metrics(self, batch, metrics, timing_raw, global_steps, epoch):
        metrics["computed"] = 1.0


class Sync(PPOTrainer):
    pass
""",
    "verl/trainer/ppo/ray_trainer.py": """
class RayPPOTrainer:
    def __init__(self, config, steps):
        self.config, self.steps, self.global_steps = config, steps, 0

    def fit(self):
        for step, batch in self.steps:
            self.global_steps = step
            self._update_actor(batch)
        return "trained"

    def _update_actor(self, batch):
        return batch
""",
}


@pytest.fixture
def verl(tmp_path):
    """Where the stand-in lies; its files may be changed."""
    for name, text in FILES.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "site"


@pytest.fixture
def python(verl):
    """Run a script in a process that has this verl and these variables."""

    def run(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        root = Path(__file__).parents[3]
        environment = {k: v for k, v in os.environ.items() if k != "MMHEALTH_RUN_DIR"}
        environment["PYTHONPATH"] = os.pathsep.join((str(verl), str(root)))
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def module(verl):
    """A fresh copy of one of its modules, imported here."""

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location("stand_in", verl / "verl/trainer/ppo" / path)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return loaded

    return load
