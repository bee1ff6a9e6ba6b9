"""All nodes freeze by the schema that the leader read, so that a backup has one instant of it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from weaviate_backup.core.orders import Command, PlannedBackup, TakeStep, conflict
from weaviate_backup.core.session import Failure, Step
from weaviate_backup.core.stepping import finished
from weaviate_backup.core.world import World


def by_one_schema(commands: Iterable[Command], plan: PlannedBackup, world: World, *, wait: bool) -> Iterator[Command]:
    """The commands as they are given: FREEZE of the others is told what the leader says that it read, and waits for
    that, if it is to `wait`: who froze already needs nothing of it. A leader that froze and said nothing is of an
    earlier version, whose agents each read the schema themselves."""
    leader = world.agents.report(plan.leader)
    surveyed = leader.surveyed if leader else None
    for command in commands:
        if not isinstance(command, TakeStep) or command.command.step is not Step.FREEZE or command.node == plan.leader:
            yield command
        elif surveyed is not None:
            yield replace(command, command=command.command.model_copy(update={"schema_sha256": surveyed.sha256}))
        elif not wait or (leader is not None and finished(leader, command.command)):
            yield command


def froze_by_others(plan: PlannedBackup, world: World) -> Failure | None:
    """Of nodes that froze by another reading than the leader's last: it lost its volume, and read again."""
    leader = world.agents.report(plan.leader)
    if leader is None or leader.surveyed is None:
        return None
    reports = [report for name in plan.nodes if (report := world.agents.report(name))]
    others = [
        report.node
        for report in reports
        if report.frozen and report.frozen.schema_sha256 not in ("", leader.surveyed.sha256)
    ]
    if not others:
        return None
    message = f"{', '.join(sorted(others))} froze by another reading of the schema than {plan.leader} has now"
    return conflict("SchemaChanged", f"{message}; make a new backup")
