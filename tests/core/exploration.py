"""Walks through every state that can be reached, checks each, and proves that each has a way to an end."""

import gc
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

Model = TypeVar("Model", bound=Hashable)


def explore(
    starts: Iterable[Model],
    successors: Callable[[Model], Iterator[Model]],
    check: Callable[[Model], None],
    *,
    is_end: Callable[[Model], bool],
) -> tuple[set[Model], list[Model]]:
    """All states and those at an end. Fails, naming one, when a state has no way there."""
    gc.disable()  # hundreds of thousands of values without a cycle among them
    try:
        seen = set(starts)
        todo = deque(seen)
        predecessors: dict[Model, list[Model]] = {}
        while todo:
            model = todo.popleft()
            check(model)
            for after in set(successors(model)):
                predecessors.setdefault(after, []).append(model)
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        ended = [model for model in seen if is_end(model)]
        can_end, todo = set(ended), deque(ended)
        while todo:
            for model in predecessors.get(todo.popleft(), ()):
                if model not in can_end:
                    can_end.add(model)
                    todo.append(model)
        stuck = seen - can_end
        assert not stuck, f"{len(stuck)} of {len(seen)} states have no way to an end, such as {next(iter(stuck))}"
        return seen, ended
    finally:
        gc.enable()
