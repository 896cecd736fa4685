"""SkyRL: ``dumped_data/global_step_{N}_training_input.pkl``, pickled by the trainer's own class."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmhealth.errors import ImportDataError
from mmhealth.integrations.dumps.format import Format
from mmhealth.integrations.dumps.parts import Found, Part, step_files
from mmhealth.integrations.dumps.places import numbered, where_numbered
from mmhealth.integrations.dumps.problems import Problems
from mmhealth.integrations.dumps.tensors import Inert, as_array, load_pt, load_restricted
from mmhealth.integrations.dumps.tokens import (
    Row,
    advantage_of,
    follows_tool,
    turns_of,
    weigh,
)

Array = np.ndarray[Any, np.dtype[Any]]

_FILE = r"global_step_(\d+)_training_input\.pkl"
_MODULES = (
    "skyrl.backends.skyrl_train.training_batch",
    "skyrl.train.training_batch",
    "skyrl_train.training_batch",
)
_DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")


def _rebuild(_: type, state: Any) -> Any:
    """In place of the trainer's function of this name: hands on the plain state."""
    return state


_NAMES: dict[tuple[str, str], Any] = {
    **{(module, "_rebuild_tensor_batch"): _rebuild for module in _MODULES},
    **{(m, n): Inert for m in _MODULES for n in ("TrainingInputBatch", "TensorBatch")},
    ("torch", "device"): Inert,
    ("numpy", "dtype"): Inert,
    ("numpy._core.multiarray", "scalar"): Inert,
    ("numpy.core.multiarray", "scalar"): Inert,
}


def _parts(found: Found) -> Iterator[Part]:
    files = [(step, (path,)) for step, path in numbered(found.root, _FILE)]
    return step_files(found, files, _read)


def _read(files: Sequence[Path], problems: Problems) -> Iterator[Row]:
    state = load_restricted(files[0], _NAMES)
    if not isinstance(state, dict) or not isinstance(state.get("batch_dict"), dict):
        raise ImportDataError("it does not hold a batch of SkyRL")
    batch = {
        name: _tensor(name, value)
        for name, value in state["batch_dict"].items()
        if isinstance(value, dict) and value.get("format") != "tensor_list"
    }
    yield from _rows(batch, problems)


def _rows(batch: dict[str, Array], problems: Problems) -> Iterator[Row]:
    """The rows of a batch: (rows, tokens) arrays, responses to the right."""
    masks = _matrix(batch, "loss_mask") > 0
    prompts = _prompts(batch)
    advantages = _matrix(batch, "advantages") if "advantages" in batch else None
    ratios = None
    if {"action_log_probs", "rollout_logprobs"} <= batch.keys():
        ratios = _matrix(batch, "action_log_probs") - _matrix(batch, "rollout_logprobs")
    else:
        problems.note("log_weight: action_log_probs or rollout_logprobs are None", len(masks))
    for array in (advantages, ratios):
        if array is not None and array.shape != masks.shape:
            raise ImportDataError(f"arrays of shapes {masks.shape} and {array.shape}")
    for number, mask in enumerate(masks):
        values: dict[str, Any] = {"length": int(mask.sum()), "turns": turns_of(mask)}
        if prompts is not None:
            values["group_id"] = prompts[number]
        if advantages is not None:
            values["advantage"] = advantage_of(advantages[number][mask], problems)
        if ratios is None:
            yield Row(values)
            continue
        own = ratios[number][mask]
        weights = weigh(own)
        values |= weights
        if "log_weight" in weights:
            values["log_weight_mismatch"] = weights["log_weight"]
        yield Row(values, own, follows_tool(mask))


def _prompts(batch: dict[str, Array]) -> list[str] | None:
    """A name for the prompt of each row: what stands before the response, padding left out."""
    if not {"sequences", "attention_mask", "response_mask"} <= batch.keys():
        return None
    names = []
    for tokens, real, response in zip(
        batch["sequences"], batch["attention_mask"] > 0, batch["response_mask"] > 0, strict=True
    ):
        kept = tokens[real]
        prompt = kept[: max(0, kept.size - int(response.sum()))].astype(np.int64)
        names.append(hashlib.blake2b(prompt.tobytes(), digest_size=8).hexdigest())
    return names


def _matrix(batch: dict[str, Array], name: str) -> Array:
    if name not in batch:
        raise ImportDataError(f"field {name!r} is missing")
    if batch[name].ndim != 2:
        raise ImportDataError(f"field {name!r} has shape {batch[name].shape}")
    return batch[name].astype(np.float64)


def _tensor(name: str, value: dict[str, Any]) -> Array:
    """A tensor from the bytes that the trainer's class keeps of it."""
    if value.get("format") == "torch" and isinstance(value.get("data"), bytes):
        return as_array(load_pt(io.BytesIO(value["data"])), name)
    try:
        if value["dtype"] not in _DTYPES:
            raise ImportDataError(f"field {name!r} has dtype {value['dtype']!r}")
        flat = np.frombuffer(value["data"], np.dtype(value["dtype"]))
        return flat.reshape(tuple(value["shape"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ImportDataError(f"field {name!r} is no tensor that can be read: {error}") from None


SKYRL = Format(
    name="skyrl",
    trainer="SkyRL",
    find=where_numbered(_FILE, lambda path: path.is_file()),
    parts=_parts,
    loss_ratio="token",
    lacks={
        "reward": "SkyRL takes the rewards out before it writes",
        "group_id": "the groups are taken out, too: rows of one prompt are taken for a group",
        "log_weight (update part)": "action_log_probs are from before the step's updates: "
        "log_weight is the train-inference part",
        "entropy, kl_ref": "not in the file",
        "horizon": "not in the file",
    },
)
