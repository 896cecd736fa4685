"""The Recorder: what a training loop holds."""

import atexit
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pyarrow as pa

from mmhealth._version import __version__
from mmhealth.errors import RecordError
from mmhealth.place import RunUrl
from mmhealth.runlog.arguments import (
    MOST,
    encodable,
    folder,
    object_url,
    one_of,
    seconds,
    step_number,
    whole_number,
)
from mmhealth.runlog.attempt import claim_attempt
from mmhealth.runlog.columns import to_columns, warm_up
from mmhealth.runlog.delivery import Delivery
from mmhealth.runlog.layout import Writer, to_json
from mmhealth.runlog.losses import Losses, LossKind
from mmhealth.runlog.rejoin import Left
from mmhealth.runlog.seal import seal_orphans
from mmhealth.runlog.step import StepRecord
from mmhealth.runlog.storage import ObjectStore
from mmhealth.runlog.upload import Upload, Uploader
from mmhealth.runlog.writer import Batch, RunWriter, describe_process, open_run_files
from mmhealth.schema import (
    AMENDMENTS,
    EVALUATIONS,
    EVENTS,
    LOSS_RATIOS,
    SCHEMA_VERSION,
    STEPS,
    TRAJECTORIES,
    UPDATES,
    Table,
)

_CLOSE_TIMEOUT_S = 60.0
_SEAL_EVERY_S = 60.0


class Recorder:
    """Writes one rank's share of a run to a run directory.

    Construction raises `RecordError` for arguments that make no sense, before training starts.
    After that nothing is ever raised into the loop (unless ``strict``): what cannot be stored is
    counted, warned of once through the logger ``mmhealth``, and shown in every view of the run.

    When ``log_step`` returns, the step, and all that was logged before it, survives a SIGKILL of
    the process (``durability="process"``) or a power loss (``"fsync"``), provided the write kept to
    its time budget. Evaluations, events and late values are written in the background meanwhile.

    Args:
        run_dir: directory of the run; made where missing.
        rank: this process's rank.
        world_size: ranks that record; a step is complete when all have committed it.
        attempt: number of this (re)start, the same on all ranks; see `new_attempt`. With one rank
            it counts up by itself; with several it is required, here or in ``MMHEALTH_ATTEMPT``.
        start_step: first step of this attempt; older rows from there on are hidden. Default: the
            first step committed.
        config: anything worth keeping about the run, stored as JSON.
        loss_ratio: level of the loss's importance ratio: token, sequence, geometric or none.
        grad_norm: in words, which gradient the column ``grad_norm`` measures.
        nominal_batch: trajectories a step is meant to have, over all ranks.
        durability: "process" or "fsync".
        time_budget: seconds that a call may wait for the disk. After that it returns, the write
            goes on in the background, and the delay is counted.
        segment_bytes: size at which a tail is sealed as Parquet, in the background.
        compact_segments: merge this rank's sealed segments of a table in the background whenever
            this many small ones lie side by side; None never does (`mmhealth compact` can).
        rejoin: where a process that recorded this rank and attempt has died, go on for it, behind
            what it committed, and hide nothing of other ranks. ``attempt`` is required. RecordError
            while it lives; see `RecorderHandle`.
        upload: URL in an object store (``s3://bucket/path``, ``gs://``, ``az://``) that sealed
            segments are sent to in the background: a place that `audit`, `gate` and `watch` read.
        seal_every: seconds after which the next commit seals the open tails, however small; with
            ``upload`` 60, since open tails stay here: readers of the URL lag by that much.
        strict: raise RecordError instead of counting.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        *,
        rank: int = 0,
        world_size: int = 1,
        attempt: int | None = None,
        start_step: int | None = None,
        config: Mapping[str, Any] | None = None,
        loss_ratio: Literal["token", "sequence", "geometric", "none"] = "sequence",
        grad_norm: str = "",
        nominal_batch: int | None = None,
        durability: Literal["process", "fsync"] = "process",
        time_budget: float = 1.0,
        segment_bytes: int = 32 << 20,
        compact_segments: int | None = None,
        rejoin: bool = False,
        upload: str | None = None,
        seal_every: float | None = None,
        strict: bool = False,
    ) -> None:
        rank = whole_number("rank", rank, most=MOST)
        world_size = whole_number("world_size", world_size, least=1, most=MOST)
        if rank >= world_size:
            raise RecordError(f"rank {rank} is not one of world_size {world_size}")
        attempt = None if attempt is None else whole_number("attempt", attempt, most=MOST)
        start_step = (
            None if start_step is None else whole_number("start_step", start_step, most=2**63 - 1)
        )
        time_budget = seconds("time_budget", time_budget)
        if compact_segments is not None:
            compact_segments = whole_number("compact_segments", compact_segments, least=2)
        if seal_every is not None:
            seal_every = seconds("seal_every", seal_every)
        elif upload is not None:
            seal_every = _SEAL_EVERY_S
        url = None if upload is None else object_url("upload", upload)
        one_of("loss_ratio", loss_ratio, LOSS_RATIOS)
        one_of("durability", durability, ("process", "fsync"))
        self.run_dir = folder("run_dir", run_dir)
        self.rank = rank
        self._world_size = world_size
        self._nominal_batch = nominal_batch
        self._strict = strict
        self._losses = Losses()
        self._committed: set[int] = set()
        self._inherited: set[int] = set()
        self._lock: int | None = None
        self._delivery: Delivery | None = None
        run = {
            "schema_version": SCHEMA_VERSION,
            "run_id": uuid.uuid4().hex,
            "name": self.run_dir.name,
            "created": time.time(),
            "mmhealth": __version__,
            "loss_ratio": loss_ratio,
            "grad_norm": grad_norm,
            "nominal_batch": nominal_batch,
            "config": encodable(config or {}),
        }
        self._opening = True
        with self._guard("write", start_step):
            open_run_files(self.run_dir, run)
            about = {**describe_process(), "world_size": world_size, "start_step": start_step}
            claim = claim_attempt(self.run_dir, rank, world_size, attempt, about, rejoin=rejoin)
            writer, left = claim.writer, claim.left
            self._lock = claim.lock
            if left is not None:
                about |= left.carried_on
            uploader = None if url is None else _uploader(self.run_dir, rank, url, self._losses)
            run_writer = RunWriter(
                self.run_dir,
                writer,
                run=run,
                about={"rank": rank, "attempt": writer.attempt, **about},
                left=left,
                losses=self._losses,
                fsync=durability == "fsync",
                segment_bytes=segment_bytes,
                compact_segments=compact_segments,
                seal_every=seal_every,
                uploader=uploader,
            )
            if left is not None:
                self._go_on(left, run_writer)

            def take_over() -> None:
                _seal_left(self.run_dir, writer, self._losses)
                if uploader is not None:
                    uploader.notify()

            run_writer.in_background(take_over)
            self._delivery = Delivery(
                run_writer,
                self._losses,
                time_budget=time_budget,
                strict=strict,
                next_seq=None if left is None else left.next_seq,
            )
            atexit.register(self.close)
            warm_up()
        self._opening = False

    @contextmanager
    def step(self, step: int, *, nominal_batch: int | None = None) -> Iterator[StepRecord]:
        """Record one step in pieces; committed when the block is left without an exception."""
        number = None
        with self._guard("step"):
            number = step_number(step)
        record = StepRecord(number or 0, self._refuse_column(number), self._guard)
        record.nominal_batch = nominal_batch if nominal_batch is not None else self._nominal_batch
        yield record
        if number is not None:
            with self._guard("step", number):
                self._commit(record)

    def log_step(
        self,
        step: int,
        trajectories: Mapping[str, Any],
        scalars: Mapping[str, float] | None = None,
        *,
        nominal_batch: int | None = None,
        log_ratios: Any = None,
        after_tool: Any = None,
    ) -> None:
        """Record a whole step with one update: all columns of `trajectories` and `updates` at once.

        ``log_ratios`` are token log-ratios (any shape) and ``after_tool`` marks those that follow a
        tool result; only their histograms are kept.
        """
        with self._guard("step"), self.step(step, nominal_batch=nominal_batch) as record:
            use = {name: trajectories[name] for name in trajectories if _is_of_update(name)}
            shared = ("trajectory_id", "role")
            sampled = {name: trajectories[name] for name in trajectories if name not in use}
            if use and not sampled:
                sized = (len(column) for column in use.values() if hasattr(column, "__len__"))
                sampled = {"trajectory_id": range(next(sized, 1))}
            record.add(sampled)
            if use:
                both = {name: trajectories[name] for name in shared if name in trajectories}
                record.update(use | both)
            record.scalars(scalars or {})
            if log_ratios is not None:
                record.log_ratios(log_ratios, after_tool=after_tool)

    def log_evaluation(
        self,
        step: int,
        *,
        episodes: int,
        successes: int,
        eval_horizon: int | None = None,
        reward_sum: float | None = None,
        train_horizons: list[int] | None = None,
        policy_id: str | None = None,
        **slices: Any,
    ) -> None:
        """Record one held-out evaluation after ``step``; further keywords are kept as columns."""
        row = {
            "step": step,
            "policy_id": policy_id,
            "train_horizons": train_horizons,
            "eval_horizon": eval_horizon,
            "episodes": episodes,
            "successes": successes,
            "reward_sum": reward_sum,
            **slices,
        }
        self._log_row(EVALUATIONS, row, "evaluation")

    def log_event(
        self, step: int, kind: str, details: Mapping[str, Any] | str | None = None
    ) -> None:
        """Record that something happened; ``details`` are kept as JSON."""
        with self._guard("event"):
            text = details if isinstance(details, str) else to_json(details or {})
            row = {"step": step, "kind": kind, "details": text, "time": time.time()}
            self._log_row(EVENTS, row, "event")

    def amend(
        self, step: int, trajectory_id: int | str, column: str, value: float, *, arrived_step: int
    ) -> None:
        """Fill in a value that has only now arrived, such as a delayed reward."""
        row = {
            "step": step,
            "trajectory_id": trajectory_id,
            "column": column,
            "value": value,
            "arrived_step": arrived_step,
        }
        self._log_row(AMENDMENTS, row, "amendment", needed=tuple(row))

    @contextmanager
    def guard(self, step: int | None = None, *, kind: LossKind = "step") -> Iterator[None]:
        """Errors inside are losses of the run, as its own are: for code that collects what to log.

        With ``strict`` they are raised, as RecordError.
        """
        with self._guard(kind, step):
            yield

    def summary(self) -> dict[str, Any]:
        """What was committed and what was lost, as far as this process knows."""
        return {"steps": len(self._committed), "losses": self._losses.as_json()}

    @property
    def closed(self) -> bool:
        """Whether nothing can be recorded any more: closed, or the run could not be opened."""
        return self._delivery is None or self._delivery.in_other_process()

    def close(self) -> None:
        """Seal the open tails and leave the final counts. Called again, does nothing."""
        delivery, self._delivery = self._delivery, None
        if delivery is None or delivery.in_other_process():
            return
        atexit.unregister(self.close)
        with self._guard("write"):
            delivery.close(_CLOSE_TIMEOUT_S)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _go_on(self, left: Left, run_writer: RunWriter) -> None:
        self._inherited |= left.steps
        self._losses.restore(left.about.get("losses"))
        run_writer.publish(force=True)

    @contextmanager
    def _guard(self, kind: LossKind, step: int | None = None) -> Iterator[None]:
        """The one place where errors of any kind stop: no recording may break a training loop."""
        try:
            yield
        except Exception as error:
            expected = isinstance(error, RecordError | OSError | ValueError | TypeError)
            if self._strict or (isinstance(error, RecordError) and self._opening):
                if isinstance(error, RecordError):
                    raise
                raise RecordError(f"{type(error).__name__}: {error}") from error
            why = (
                str(error) if isinstance(error, RecordError) else f"{type(error).__name__}: {error}"
            )
            self._losses.add(kind if expected else "internal", why, step)

    def _refuse_column(self, step: int | None) -> Callable[[str, str], None]:
        def refuse(column: str, why: str) -> None:
            if self._strict:
                raise RecordError(f"column {column!r}: {why}")
            self._losses.add("column", f"column {column!r}: {why}", step)

        return refuse

    def _open(self, step: int) -> Delivery | None:
        """The way to the disk; None, which is counted, where there is none."""
        if self._delivery is None:
            why = "the recorder is closed or could not open the run"
            if self._strict:
                raise RecordError(f"step {step}: {why}")
            self._losses.add("write", why, step)
        return self._delivery

    def _commit(self, record: StepRecord) -> None:
        if (delivery := self._open(record.step)) is None:
            return
        with delivery.lock:
            if record.step in self._inherited:
                why = "the step was committed before the process died"
                self._losses.add("repeated_step", why, record.step)
                return
            if record.step in self._committed:
                delivery.lose("duplicate_commit", "the step is committed already", record.step)
                return
            rows = {table: record.rows(table) for table in (TRAJECTORIES, UPDATES)}
            commit: dict[str, Any] = record.commit_columns() | {
                "step": record.step,
                "ranks_expected": self._world_size,
                "time": time.time(),
            }
            batches = []
            for table, columns in rows.items():
                if columns:
                    batch = Batch(table.name, delivery.next_seq(table), columns)
                    batches.append(batch)
                    commit[f"{table.name}_seq"] = batch.seq
                    commit[f"{table.name}_rows"] = len(next(iter(columns.values())))
            columns = self._one_row(STEPS, commit, record.step)
            batches.append(Batch(STEPS.name, delivery.next_seq(STEPS), columns))
            self._committed.add(record.step)
            job = delivery.submit(batches, record.step, commits=True)
        if job is not None and not delivery.wait(job, record.step):
            self._committed.discard(record.step)

    def _log_row(
        self, table: Table, row: dict[str, Any], kind: LossKind, *, needed: tuple[str, ...] = ()
    ) -> None:
        step = row["step"]
        with self._guard(kind, step):
            columns = self._one_row(table, row, step, needed)
            if (delivery := self._open(step)) is None:
                return
            with delivery.lock:
                batch = Batch(table.name, delivery.next_seq(table), columns)
                job = delivery.submit([batch], step, commits=False)
            if job is not None and (self._strict or delivery.is_behind()):
                delivery.wait(job, step)

    def _one_row(
        self, table: Table, row: dict[str, Any], step: int, needed: tuple[str, ...] = ()
    ) -> dict[str, pa.Array]:
        present = {
            name: [value.item() if hasattr(value, "item") else value]
            for name, value in row.items()
            if value is not None
        }
        refused: dict[str, str] = {}
        columns = to_columns(table, present, refused.__setitem__)
        for name in ("step", *needed):
            if name not in columns:
                raise RecordError(f"{name} = {row[name]!r}: {refused.get(name, 'is missing')}")
        for name, why in refused.items():
            self._refuse_column(step)(name, why)
        return columns


def _is_of_update(column: str) -> bool:
    return UPDATES.kind(column) is not None and TRAJECTORIES.kind(column) is None


def _uploader(run_dir: Path, rank: int, url: RunUrl, losses: Losses) -> Uploader:
    """Sends the files of this rank, those of its dead attempts among them."""
    store = ObjectStore(url)
    return Uploader(Upload(run_dir, store, lambda writer: writer.rank == rank), losses)


def _seal_left(run_dir: Path, writer: Writer, losses: Losses) -> None:
    """Seal the tails that dead processes of this rank left, of this attempt too."""
    try:
        seal_orphans(
            run_dir,
            lambda tail: tail.writer.rank == writer.rank and tail.writer.attempt <= writer.attempt,
        )
    except OSError as error:
        losses.add("write", f"an older tail stays unsealed: {error}")
