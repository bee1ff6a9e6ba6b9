"""How much one look may read of objects that others wrote: a bound of each answer is none of their sum. Pure."""

from dataclasses import dataclass, field

from weaviate_backup.errors import Permanent
from weaviate_backup.layout.json_bounds import MIB


@dataclass
class ReadBudget:
    """What one look may read and keep, over all its answers."""

    objects: int = 10_000
    read_bytes: int = 32 * MIB
    kept_bytes: int = 12 * MIB
    _spent: list[int] = field(default_factory=lambda: [0, 0, 0])

    def spend(self, what: str, *, objects: int = 0, read_bytes: int = 0, kept_bytes: int = 0) -> None:
        """Raises `TooManyObjects`; `what` names the call."""
        self._spent = [sum(each) for each in zip(self._spent, (objects, read_bytes, kept_bytes), strict=True)]
        bounds = (
            (self.objects, f"{self.objects} objects"),
            (self.read_bytes, f"{self.read_bytes // MIB} MiB of objects"),
            (self.kept_bytes, f"{self.kept_bytes // MIB} MiB of what is needed of them"),
        )
        for spent, (bound, said) in zip(self._spent, bounds, strict=True):
            if spent > bound:
                message = f"{what}: at most {said} are read at a time; there must be fewer, or smaller ones"
                raise Permanent("TooManyObjects", message)
