"""The tables of a run directory and their columns: the only place where they are defined.

A column's *kind* says what values it takes and how they are stored:

======== ============================================== ==========================
kind     takes                                          stored as
======== ============================================== ==========================
id       integers or text                               int64, or string
integer  integers                                       int64
real     any number, NaN and infinities included        float32 or float64 as given
flag     booleans, or numbers that are 0 or 1           bool
text     text                                           string
integers a list of integers a row                       list<int64>
======== ============================================== ==========================

Every column but ``step`` may be null. Columns that are not listed here are kept as they come and
can be sliced by. Bump `SCHEMA_VERSION` when an old reader would misread a new file.
"""

from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = 1

Kind = Literal["id", "integer", "real", "flag", "text", "integers"]
Role = Literal["used", "replaced", "injected", "filtered"]

ROLES: tuple[Role, ...] = ("used", "replaced", "injected", "filtered")
SAMPLED_ROLES: tuple[Role, ...] = ("used", "replaced", "filtered")
"""Rows the policy sampled: what reward, success, groups and the watched ESS describe."""
UPDATE_ROLES: tuple[Role, ...] = ("used", "injected")
"""Rows that entered the optimizer step."""

LOSS_RATIOS = ("token", "sequence", "geometric", "none")
"""Levels at which a loss may form its importance ratio."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    kind: Kind
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a run directory."""

    name: str
    row: str
    """What one row stands for."""
    columns: tuple[Column, ...]

    def kind(self, column: str) -> Kind | None:
        """The kind of a column, or None for a column of the user's own."""
        return _KINDS[self.name].get(column)


_STEP = Column("step", "integer", "step", "rollout batch and everything done with it; the clock")
_ID = Column("trajectory_id", "id", "", "unique within (step, rank); numbered from 0 by default")
_ROLE = Column("role", "text", "", "used, replaced, injected or filtered; used when not given")

TRAJECTORIES = Table(
    "trajectories",
    "(step, trajectory): what was sampled",
    (
        _STEP,
        _ID,
        Column("group_id", "id", "", "trajectories that share a prompt"),
        _ROLE,
        Column("behavior_lag", "integer", "update", "age of the policy that sampled it"),
        Column("reward", "real", "reward", "total reward; null while it is pending"),
        Column("length", "integer", "token", "generated tokens"),
        Column("turns", "integer", "turn", "interaction turns"),
        Column("horizon", "integer", "turn", "budget of turns it was sampled with"),
        Column("success", "flag", "", "the task was solved"),
        Column("source", "text", "", "where the reward comes from"),
        Column("capability", "text", "", "what the task trains"),
        Column("modality", "text", "", "input modality"),
        Column("tool_calls", "integer", "call", "tool calls made"),
        Column("constraint_margin", "real", "", "distance to the next constraint; negative inside"),
        Column("violated", "flag", "", "a constraint was violated"),
        Column("refused", "flag", "", "the policy declined to act"),
        Column("subagents", "integer", "agent", "sub-agents started"),
        Column("serial", "flag", "", "never more than one sub-agent at work at once"),
        Column("near_miss", "flag", "", "nearly solved, or only just"),
        Column("entropy", "real", "nat/token", "mean token entropy of the policy"),
        Column("strategic_entropy", "real", "nat/token", "the same over choices of what to do"),
        Column("kl_ref", "real", "nat/token", "mean KL divergence from the reference policy"),
        Column("token_count", "integer", "token", "tokens that entropy and kl_ref are means over"),
    ),
)

UPDATES = Table(
    "updates",
    "(step, update, trajectory): how it was used in one optimizer step",
    (
        _STEP,
        Column("update", "integer", "", "optimizer step within the step, from 0"),
        _ID,
        _ROLE,
        Column("advantage", "real", "reward", "advantage as it entered the loss"),
        Column("log_weight", "real", "nat", "raw log importance ratio, before clip or truncation"),
        Column("log_weight_mismatch", "real", "nat", "its part from train-inference mismatch"),
        Column("weight_used", "real", "", "the weight the loss multiplied"),
        Column("token_logsum_w", "real", "nat", "log of the sum of token weights"),
        Column("token_logsum_w2", "real", "nat", "log of the sum of squared token weights"),
        Column("log_ratio_max", "real", "nat", "largest absolute token log-ratio"),
        Column("log_ratio_p95", "real", "nat", "95th percentile of it; for drill-down only"),
        Column("grad_norm", "real", "", "norm of the gradient of its term in the loss"),
        Column("grad_cosine", "real", "", "cosine of that gradient with the whole update's"),
        Column("weight_at", "text", "", "when log_weight was measured: loss, or after the update"),
    ),
)

STEPS = Table(
    "steps",
    "(step, rank): its commit; further columns are scalars such as loss and lr",
    (
        _STEP,
        Column("nominal_batch", "integer", "trajectory", "batch size asked for, over all ranks"),
        Column("sampled", "integer", "trajectory", "rows of this rank that were sampled"),
        Column("used", "integer", "trajectory", "rows of this rank that entered an update"),
        Column("ranks_expected", "integer", "rank", "commits that make the step complete"),
        Column("trajectories_seq", "integer", "", "sequence number of the trajectories batch"),
        Column("trajectories_rows", "integer", "row", "rows in that batch"),
        Column("updates_seq", "integer", "", "sequence number of the updates batch"),
        Column("updates_rows", "integer", "row", "rows in that batch"),
        Column("time", "real", "s", "when it was committed, seconds since 1970"),
        Column("log_ratio_histogram", "integers", "token", "absolute token log-ratios, all tokens"),
        Column("log_ratio_tool_histogram", "integers", "token", "the same, after tool results"),
    ),
)

EVALUATIONS = Table(
    "evaluations",
    "one held-out evaluation; never mixed into training metrics",
    (
        _STEP,
        Column("policy_id", "text", "", "which policy was evaluated; the run's own when null"),
        Column("train_horizons", "integers", "turn", "horizons the policy is trained at"),
        Column("eval_horizon", "integer", "turn", "horizon it was evaluated at"),
        Column("episodes", "integer", "episode", "episodes played"),
        Column("successes", "integer", "episode", "episodes solved"),
        Column("reward_sum", "real", "reward", "sum of the episodes' rewards"),
    ),
)

AMENDMENTS = Table(
    "amendments",
    "a value that arrived late; the latest wins",
    (
        _STEP,
        _ID,
        Column("column", "text", "", "column of trajectories that it fills"),
        Column("value", "real", "", "the value"),
        Column("arrived_step", "integer", "step", "the step in which it arrived"),
    ),
)

EVENTS = Table(
    "events",
    "anything that happened: interventions, alerts, checkpoints",
    (
        _STEP,
        Column("kind", "text", "", "what happened"),
        Column("details", "text", "JSON", "more about it"),
        Column("time", "real", "s", "when, seconds since 1970"),
    ),
)

TABLES: dict[str, Table] = {
    table.name: table for table in (TRAJECTORIES, UPDATES, STEPS, EVALUATIONS, AMENDMENTS, EVENTS)
}
_KINDS = {name: {c.name: c.kind for c in table.columns} for name, table in TABLES.items()}
