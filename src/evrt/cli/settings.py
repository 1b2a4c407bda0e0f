"""How a worker is to work, as its options say."""

from __future__ import annotations

from dataclasses import dataclass

from evrt.app import App
from evrt.errors import UsageError
from evrt.worker.worker import Worker


@dataclass(frozen=True, slots=True)
class Settings:
    """What every process of a worker is told. ``agents`` are names with commas between them; times are in seconds."""

    agents: str | None
    concurrency: int
    runs_max: int | None
    poll_seconds: float
    grace_seconds: float
    lease_seconds: float

    @property
    def targets(self) -> list[str] | None:
        """Names of agents and workflows. Raises UsageError where none is named."""
        if self.agents is None:
            return None
        names = [name.strip() for name in self.agents.split(",")]
        if not all(names):
            raise UsageError(
                f"--agents takes names with commas between them, as in --agents helper,report; not {self.agents!r}."
            )
        return names

    @property
    def words(self) -> list[str]:
        """The options again, for another process."""
        options = {
            "--agents": self.agents,
            "--concurrency": self.concurrency,
            "--runs-max": self.runs_max,
            "--poll-interval": self.poll_seconds,
            "--grace": self.grace_seconds,
            "--lease": self.lease_seconds,
        }
        return [f"{name}={value}" for name, value in options.items() if value is not None]

    def make_worker(self, app: App) -> Worker:
        """Raises UsageError for names that neither the app nor its log has, and where both have none."""
        named = set(self.targets or ())
        defined: frozenset[str] = frozenset()
        if not app.targets or named - set(app.targets):
            defined = app.defined_keys()
        if not app.targets and not defined:
            raise UsageError(
                "The app has no agent or workflow, and none is defined in its log, so there is nothing that a worker could "
                "execute."
            )
        return Worker(
            app,
            targets=self.targets,
            defined=defined,
            concurrency=self.concurrency,
            claimed_max=self.runs_max,
            poll_seconds=self.poll_seconds,
            lease_seconds=self.lease_seconds,
            grace_seconds=self.grace_seconds,
        )


def seconds(option: str, given: float, least: float, most: float) -> float:
    """A length of time as it was given. Raises UsageError for one that cannot be meant, NaN among them."""
    if not least <= given <= most:
        raise UsageError(f"{option} takes {least:g} to {most:g} seconds, not {given:g}.")
    return given
