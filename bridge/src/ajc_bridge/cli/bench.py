"""placeholder"""


def bench() -> None: ...
