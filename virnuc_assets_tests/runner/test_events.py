import pytest

from virnuc_assets.errors import RunnerError
from virnuc_assets.runner.events import (
    BlockDone,
    Failed,
    JobBegins,
    Progress,
    ShardDone,
    Started,
    Warned,
    from_line,
    to_line,
)

EVENTS = [
    Started(10, 3, 4, 1, ("cpu",), "untrained"),
    JobBegins(2),
    BlockDone(0, 1, 10, 100, 0.5, "2"),
    ShardDone(3, "x/shard-03-of-08.h5", True, {"tokens": 1}),
    Progress(5, 10, 123.4, None),
    Warned('a "quoted"\nwarning'),
    Failed("why", 2, False),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_survives_its_line(event):
    line = to_line(event)
    assert "\n" not in line
    assert from_line(line) == event


@pytest.mark.parametrize("line", ["", "hello", "[]", "{}", '{"event": "progress"}'])
def test_anything_else_is_refused(line):
    with pytest.raises(RunnerError, match="no event"):
        from_line(line)
