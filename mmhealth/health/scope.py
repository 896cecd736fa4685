"""What the gate looks at: which rules, and which steps."""

from dataclasses import dataclass

from mmhealth.health.alerts import Alert


@dataclass(frozen=True, slots=True)
class GateScope:
    """The rules that count for the gate, and the steps at which no alert of theirs may fire."""

    from_step: int | None = None
    """First step of the range; ``to_step`` where None."""
    to_step: int | None = None
    """Last step of the range; the run's last judged step where None."""
    rules: tuple[str, ...] = ()
    """Only these rules count; all where empty."""
    ignore: tuple[str, ...] = ()
    """These rules do not."""

    @property
    def is_ranged(self) -> bool:
        """Whether steps were asked for."""
        return self.from_step is not None or self.to_step is not None

    def covers_rule(self, name: str) -> bool:
        """Whether the rule counts."""
        return name not in self.ignore and (not self.rules or name in self.rules)

    def steps(self, last: int) -> tuple[int, int]:
        """First and last step of the range in a run whose last judged step is ``last``."""
        to_step = last if self.to_step is None else self.to_step
        return (to_step if self.from_step is None else self.from_step), to_step

    def covers(self, alert: Alert, last: int) -> bool:
        """Whether the alert counts: its rule does, and it fires at some step of the range."""
        from_step, to_step = self.steps(last)
        if last < from_step:
            return False
        over = alert.resolved_step is not None and alert.resolved_step <= from_step
        fires = alert.step <= to_step and last >= from_step and not over
        return self.covers_rule(alert.rule) and fires

    def describe(self) -> str:
        """The scope in words; empty for all rules at the last step."""
        given = {
            "rules": ", ".join(self.rules),
            "ignore": ", ".join(self.ignore),
            "from_step": self.from_step,
            "to_step": self.to_step,
        }
        return "; ".join(
            f"{key} = {value}" for key, value in given.items() if value not in ("", None)
        )


EVERYTHING = GateScope()
"""All rules, at the run's last judged step."""
