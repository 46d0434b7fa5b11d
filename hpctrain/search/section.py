"""The study file: which keys of a profile vary, what counts as better, how many trials, and how many at once."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hpctrain.profile.sections.base import Line, Name, PathText, Section, Switch, TimeLimit

MAX_TRIALS = 1_000_000
MAX_GRID = 1_000_000
WILCOXON = "wilcoxon"
"""Name of the pruner that compares folds."""


class ParameterSection(Section):
    """One key of the profile that varies: between `low` and `high`, or among `choices`."""

    low: int | float | None = None
    """Smallest value. If `low` and `high` are whole numbers, all values are."""
    high: int | float | None = None
    """Largest value, which is included."""
    step: int | float | None = None
    """Distance of neighbouring values, counted from `low`; for whole numbers 1 if unset."""
    log: Switch = False
    """Sample the logarithm evenly: for learning rates and other values that span orders of magnitude."""
    choices: list[Any] | dict[str, Any] | None = None
    """Values of the key: a list; or names and values, for values that are whole sections."""
    when: dict[str, Any] = {}
    """Other parameters and the value, or list of values, that they must have; else this key keeps its base value."""

    @model_validator(mode="after")
    def _is_range_or_choices(self) -> ParameterSection:
        if self.choices is not None:
            if any(value is not None for value in (self.low, self.high, self.step)) or self.log:
                raise ValueError("has choices, so low, high, step and log mean nothing")
            if not self.choices:
                raise ValueError("has no choice")
            if isinstance(self.choices, list) and len({str(choice) for choice in self.choices}) < len(self.choices):
                raise ValueError("has the same choice twice")
        elif self.low is None or self.high is None:
            raise ValueError("needs low and high, or choices")
        elif not self.low < self.high:
            raise ValueError("needs low < high")
        elif self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("needs low > 0, and no step, because log is set")
        elif self.step is not None and not 0 < self.step <= self.high - self.low:
            raise ValueError("needs a step above 0 and at most high - low")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers."""
        return all(isinstance(value, int) for value in (self.low, self.high, 1 if self.step is None else self.step))


def _as_parameter(value: Any) -> Any:
    """Let a list stand for choices."""
    return {"choices": value} if isinstance(value, list) else value


class ObjectiveSection(Section):
    """What a trial is judged by."""

    metric: Annotated[str, Field(min_length=1)] | None = None
    """A number among the metrics of an evaluation; if unset, the one that decides which evaluation of the family is
    best. Or a number of the finished model: ``num_parameters``, ``model_mib``; of its training: ``gpu_hours``,
    ``energy_kwh``; of its bundle, if the base has ``edge.export_at_end``: ``bundle_mib``, ``latency_ms`` and
    ``joules_per_sample`` of one sample."""
    direction: Literal["minimize", "maximize"] | None = None
    """If unset, that of the family for its own objective; ``minimize`` for all others."""


class SamplerSection(Section):
    """Which values the next trial gets."""

    name: Literal["tpe", "random", "grid", "sobol", "gp", "cmaes", "nsga2", "nsga3", "pbt"] = "tpe"
    """``tpe`` models good and bad trials together (multivariate, aware of running ones); ``gp`` is a Gaussian process;
    ``cmaes``, ``nsga2`` and ``nsga3`` evolve; ``sobol`` fills the space evenly; ``grid`` tries all combinations;
    ``pbt`` trains a population: each trial goes on from the weights of an earlier one."""
    startup_trials: Annotated[int, Field(ge=1)] = 10
    """Random trials before ``tpe``, ``gp`` or ``cmaes`` begins to learn."""
    population: Annotated[int, Field(ge=2)] = 50
    """Trials of a generation of ``nsga2`` and ``nsga3``, and lineages of ``pbt``."""


class PrunerSection(Section):
    """Which trials end before their last step."""

    name: Literal["none", "median", "halving", "hyperband", "wilcoxon"] = "none"
    """``median``: worse than the median of earlier trials; ``halving``: not among the best 1/`reduction_factor` at each
    rung (ASHA); ``hyperband``: the same with several lengths of the first rung; ``wilcoxon``, for a study with `folds`:
    worse than the best trial on the same folds, by the signed-rank test, so the other folds are not trained."""
    p_value: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Of ``wilcoxon``: a trial ends if the test gives a smaller p. The smallest p that n folds can give is 1 / 2^n."""
    min_evaluations: Annotated[int, Field(ge=1)] = 1
    """No trial is judged before so many evaluations."""
    startup_trials: Annotated[int, Field(ge=0)] = 5
    """Finished trials before ``median`` begins."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """Of ``halving`` and ``hyperband``: one trial of so many goes on after each rung."""
    max_evaluations: Annotated[int, Field(ge=2)] | None = None
    """Evaluations of a whole trial, for ``hyperband``; if unset, those of the first trial that finished."""


def _moment(value: str) -> str:
    try:
        datetime.datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("is not a date; write 2026-12-01 or 2026-12-01T08:00") from None
    return value


def _moment_text(value: Any) -> Any:
    """YAML reads an unquoted date as one."""
    return value.isoformat() if isinstance(value, datetime.date) else value


class BudgetSection(Section):
    """After what no further trial starts; those that run go on to their end."""

    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    """GPU hours of all trials; hours of ranks on machines without GPUs."""
    wall_time: TimeLimit | None = None
    """Time since the study was submitted: HH:MM:SS or D-HH:MM:SS."""
    until: Annotated[str, BeforeValidator(_moment_text), AfterValidator(_moment)] | None = None
    """A date, or date and time, of this machine's clock."""


ENGINES = ("target", "ray")
CLIENT = "ray://"
"""Beginning of the address of Ray's client."""


class EngineSection(Section):
    """What runs the trials."""

    name: Literal["target", "ray"] = "target"
    """``target``: the queue, or the machine, of ``launch.cluster``. ``ray``: a Ray cluster that runs already; each
    trial gets the CPUs and GPUs of the base, on one node."""
    address: Annotated[str, Field(min_length=1)] = "auto"
    """Of ``ray``: ``auto`` for the cluster that this machine belongs to, ``HOST:PORT`` of its head, or
    ``ray://HOST:10001``, Ray's client, from a machine that does not belong to it but sees the same files."""

    @model_validator(mode="after")
    def _is_of_ray(self) -> EngineSection:
        if self.name != "ray" and self.address != "auto":
            raise ValueError("address is of a Ray cluster; add engine.name: ray, or remove it")
        if "://" in self.address and not self.address.startswith(CLIENT):
            raise ValueError("needs an address such as auto, head:6379 or ray://head:10001")
        return self


def _as_engine(value: Any) -> Any:
    """Let ``engine: ray`` stand for its name."""
    if isinstance(value, str) and value not in ENGINES:
        raise ValueError(f"'{value}' is no engine; write {' or '.join(ENGINES)}")
    return {"name": value} if isinstance(value, str) else value


class StudySection(Section):
    """A search over the keys of one profile."""

    name: Name
    """Name of the study's folder and of the job array."""
    description: Line = ""
    """One line that the report shows."""
    base: PathText
    """The profile that all trials share, relative to this file."""
    set: list[str] = []
    """Changes of the base for all trials, such as ``train.epochs=20``."""
    space: Annotated[dict[str, Annotated[ParameterSection, BeforeValidator(_as_parameter)]], Field(min_length=1)]
    """The keys that vary, such as ``train.learning_rate: {low: 1e-5, high: 1e-2, log: true}``; a list means choices."""
    objectives: Annotated[list[ObjectiveSection], Field(min_length=1, max_length=4)] = [ObjectiveSection()]
    """One, or several that are traded off against each other."""
    sampler: SamplerSection = SamplerSection()
    pruner: PrunerSection = PrunerSection()
    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)]
    """Number of trials."""
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    """Cross-validate each trial: cut the objects into so many folds, and train once for each of them that is held out.
    The value of a trial is the mean over its folds. ``data.split`` of the base says what stays together."""
    test_fold: Annotated[int, Field(ge=0)] | None = None
    """With `folds`: the fold, from 0, that no trial sees, for a final test."""
    parallel: Annotated[int, Field(ge=1)] = 4
    """Trials at once; with `folds` runs at once."""
    budget: BudgetSection = BudgetSection()
    engine: Annotated[EngineSection, BeforeValidator(_as_engine)] = EngineSection()
    """``target``, or ``ray``, or a section with the address of the Ray cluster."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the sampler. With one trial at once, the same seed gives the same trials."""
    storage: str | None = None
    """SQLAlchemy URL of a database, such as ``sqlite:///study.db``, that gets a copy of each trial in Optuna's own
    tables, for ``optuna-dashboard``; a database that does not answer stops no trial."""

    @model_validator(mode="after")
    def _fits_together(self) -> StudySection:
        if len(self.objectives) > 1 and self.pruner.name != "none":
            raise ValueError("several objectives cannot be pruned; remove pruner")
        if len(self.objectives) > 1 and self.sampler.name in ("cmaes", "pbt"):
            raise ValueError(f"{self.sampler.name} knows one objective; use nsga2, nsga3 or tpe")
        if reason := self._why_folds_do_not_fit():
            raise ValueError(reason)
        return self

    def _why_folds_do_not_fit(self) -> str:
        if self.folds is None:
            if self.test_fold is not None:
                return "test_fold is one of the folds; set folds, or remove it"
            return (
                "the pruner wilcoxon compares folds; set folds, or use median" if self.pruner.name == WILCOXON else ""
            )
        if self.test_fold is not None and self.test_fold >= self.folds:
            return f"there is no test_fold {self.test_fold}: {self.folds} folds have the numbers 0 to {self.folds - 1}"
        if len(self.held_out_folds) < 2:
            return "one fold beside test_fold leaves nothing to train on; use 3 folds or more"
        if self.pruner.name not in ("none", WILCOXON):
            return f"with folds a trial is judged after each fold; use the pruner {WILCOXON}, or none"
        if self.sampler.name == "pbt":
            return "pbt goes on from the weights of one run, and a trial with folds has several; remove folds"
        return "Ray starts one run for each trial; remove folds, or engine: ray" if self.engine.name == "ray" else ""

    @property
    def held_out_folds(self) -> tuple[int, ...]:
        """The folds that each trial holds out in turn; none where trials are not cross-validated."""
        return tuple(fold for fold in range(self.folds or 0) if fold != self.test_fold)

    @property
    def split_changes(self) -> list[str]:
        """Changes of the base that cut its objects into folds."""
        if self.folds is None:
            return []
        test = [] if self.test_fold is None else [f"data.split.test_fold={self.test_fold}"]
        return [f"data.split.folds={self.folds}", *test]
