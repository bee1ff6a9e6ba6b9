"""The file of captured writes: round trips, the last write wins, damage is refused."""

import tracemalloc
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.places import place_of

from weaviate_backup import answers
from weaviate_backup.errors import Permanent
from weaviate_backup.layout.json_bounds import JsonBounds
from weaviate_backup.weaviate import late_writes
from weaviate_backup.weaviate.late_writes import FRAME, MAGIC, Write, batches, encode, final_writes, read_writes

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


@pytest.mark.parametrize("there_bytes", [0, 1000])
def test_no_room_is_made_for_what_a_frame_only_says_it_holds(there_bytes: int, tmp_path: Path) -> None:
    path = stored(tmp_path, [Write(UUID(int=1), 7, b"object")])
    with path.open("ab") as file:
        file.write(FRAME.pack(False, UUID(int=2).bytes, 7, (1 << 32) - 1) + bytes(there_bytes))
    writes = read_writes(place_of(tmp_path) / path.name)
    tracemalloc.start()
    try:
        assert next(writes).stored_object == b"object"
        with pytest.raises(Permanent, match=r"DamagedLateWrites: .*ends inside a frame"):
            next(writes)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1 << 20


@pytest.mark.parametrize(("flag", "content"), [(0, b""), (1, b"object"), (2, b""), (2, b"object"), (255, b"")])
def test_what_is_neither_an_object_nor_a_deletion_is_damage(flag: int, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / late_writes.LATE_WRITES
    path.write_bytes(MAGIC + FRAME.pack(flag, UUID(int=1).bytes, 7, len(content)) + content)
    with pytest.raises(Permanent, match=r"DamagedLateWrites: .* neither an object nor a deletion"):
        list(read_writes(place_of(tmp_path) / path.name))


def test_an_object_that_memory_does_not_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of holes costs whoever makes it nothing."""
    path = stored(tmp_path, [Write(UUID(int=1), 7, bytes(101))])
    monkeypatch.setattr(answers, "document_bounds", lambda: JsonBounds(101, 20))
    assert len(next(read_writes(place_of(tmp_path) / path.name)).stored_object) == 101
    monkeypatch.setattr(answers, "document_bounds", lambda: JsonBounds(100, 20))
    with pytest.raises(
        Permanent, match=r"DocumentTooLarge: .* an object of 101 bytes, more than 100; .*limits\.memory"
    ):
        next(read_writes(place_of(tmp_path) / path.name))


def test_batches_are_bounded_by_number_and_bytes() -> None:
    small = [Write(UUID(int=number), 0, b"x") for number in range(450)]
    assert [len(batch) for batch in batches(small)] == [8] * 56 + [2]
    big = [Write(UUID(int=number), 0, bytes(9 << 20)) for number in range(3)]
    assert [len(batch) for batch in batches(big)] == [1, 1, 1]
    assert list(batches([])) == []
