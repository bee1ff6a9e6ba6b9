"""All nodes freeze by the schema that the leader read, so that a backup has one instant of it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from weaviate_backup.core.orders import Command, PlannedBackup, TakeStep
from weaviate_backup.core.session import NodeReport, Step, StepPhase
from weaviate_backup.core.world import World


def by_one_schema(commands: Iterable[Command], plan: PlannedBackup, world: World) -> Iterator[Command]:
    """The commands as they are given: FREEZE of the others waits for what the leader says that it read. One that froze
    and said nothing is of an earlier version, whose agents each read the schema themselves."""
    leader = world.agents.report(plan.leader)
    surveyed = leader.surveyed if leader else None
    for command in commands:
        if not isinstance(command, TakeStep) or command.command.step is not Step.FREEZE or command.node == plan.leader:
            yield command
        elif surveyed is not None:
            yield replace(command, command=command.command.model_copy(update={"schema_sha256": surveyed.sha256}))
        elif leader is not None and _has_frozen(leader):
            yield command


def _has_frozen(report: NodeReport) -> bool:
    freeze = report.steps.get(Step.FREEZE)
    return freeze is not None and freeze.phase is StepPhase.DONE
