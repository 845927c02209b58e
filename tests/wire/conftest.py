"""What the tests of the wire share: a task in the vectors' words, and any task at all."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from ajc.task import Result, Task


def _result(result: Result | None) -> dict[str, Any] | None:
    return None if result is None else {"payload": result.raw, "completed_ns": int(result.completed)}


def _values(task: Task) -> dict[str, Any]:
    results = task.dependency_results
    return {
        "id": task.id,
        "type": task.type,
        "queue": task.queue,
        "dependencies": list(task.dependencies),
        "dependency_results": {key: _result(value) for key, value in results.items()} if results else None,
        "load_dependencies": task.load_dependencies,
        "payload_base64": None if task.payload is None else base64.b64encode(task.payload).decode(),
        "deadline_ns": task.deadline,
        "max_tries": task.max_tries,
        "result": _result(task.result),
        "state": task.state,
        "created_ns": int(task.created),
        "tried_ns": task.tried,
        "tries": task.tries,
        "last_err": task.last_err,
        "signature": task.signature,
    }


@pytest.fixture
def values() -> Callable[[Task], dict[str, Any]]:
    """Turn a task into what the vectors call `decoded`."""
    return _values
