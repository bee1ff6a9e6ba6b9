"""The file of captured writes: round trips, the last write wins, damage is refused."""

from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.places import place_of

from weaviate_backup.errors import Permanent
from weaviate_backup.weaviate import late_writes
from weaviate_backup.weaviate.late_writes import MAGIC, Write, batches, encode, final_writes, read_writes

WRITES = st.lists(
    st.builds(
        Write,
        uuid=st.integers(0, 5).map(lambda number: UUID(int=number)),
        updated_milliseconds=st.integers(0, 2**62),
        stored_object=st.binary(max_size=20),
    )
)


def stored(directory: Path, writes: list[Write]) -> Path:
    path = directory / late_writes.LATE_WRITES
    path.write_bytes(MAGIC + b"".join(encode(write) for write in writes))
    return path


@given(writes=WRITES)
def test_writes_come_back_and_the_last_of_an_object_wins(
    writes: list[Write], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = stored(tmp_path_factory.mktemp("late"), writes)
    assert list(read_writes(place_of(path.parent) / path.name)) == writes
    assert {write.uuid: write for write in final_writes(place_of(path.parent) / path.name)} == {
        write.uuid: write for write in writes
    }
    assert len(list(final_writes(place_of(path.parent) / path.name))) == len({write.uuid for write in writes})


@given(writes=WRITES, cut=st.integers(1, 60))
def test_a_torn_file_is_never_half_read_in_silence(
    writes: list[Write], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = stored(tmp_path_factory.mktemp("late"), writes)
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    boundaries = {len(MAGIC)}
    for write in writes:
        boundaries.add(max(boundaries) + len(encode(write)))
    if len(content) - cut in boundaries:
        assert (
            list(read_writes(place_of(path.parent) / path.name))
            == writes[: sorted(boundaries).index(len(content) - cut)]
        )
    else:
        with pytest.raises(Permanent) as caught:
            list(read_writes(place_of(path.parent) / path.name))
        assert caught.value.reason == "DamagedLateWrites"


def test_batches_are_bounded_by_number_and_bytes() -> None:
    small = [Write(UUID(int=number), 0, b"x") for number in range(450)]
    assert [len(batch) for batch in batches(small)] == [8] * 56 + [2]
    big = [Write(UUID(int=number), 0, bytes(9 << 20)) for number in range(3)]
    assert [len(batch) for batch in batches(big)] == [1, 1, 1]
    assert list(batches([])) == []
