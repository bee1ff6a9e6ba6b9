"""All nodes freeze by the schema that the leader read, so that a backup has one instant of it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from weaviate_backup.core.orders import Command, PlannedBackup, TakeStep
from weaviate_backup.core.session import Step
from weaviate_backup.core.world import World


def by_one_schema(commands: Iterable[Command], plan: PlannedBackup, world: World) -> Iterator[Command]:
    """The commands as they are given: FREEZE of the others waits for what the leader says that it read."""
    leader = world.agents.report(plan.leader)
    surveyed = leader.surveyed if leader else None
    for command in commands:
        if isinstance(command, TakeStep) and command.command.step is Step.FREEZE and command.node != plan.leader:
            if surveyed is None:
                continue
            freeze = command.command.model_copy(update={"schema_sha256": surveyed.sha256})
            yield replace(command, command=freeze)
        else:
            yield command
