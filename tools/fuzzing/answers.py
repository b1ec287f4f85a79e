"""What a server said on a connection -> its answers, held against what is defined."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

STATUSES = (100, 200, 204, 400, 401, 403, 404, 405, 408, 409, 413, 429, 503, 504)
# The model's answer to numbers that are none: an error of its own, by the one way JSON has.
NOT_A_NUMBER = "holds NaN or infinity, which JSON cannot carry"
HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z ]+\r\n((?:[!-9;-~]+: ?[ -~\x80-\xff]*\r\n)*)\r\n")
LENGTH = re.compile(rb"(?:^|\r\n)content-length: *(\d+)\r\n", re.IGNORECASE)
CLOSE = re.compile(rb"(?:^|\r\n)connection: *close\r\n", re.IGNORECASE)


class Fault(Exception):
    """What was answered is not what is defined; the message says how."""


@dataclass(frozen=True)
class Answer:
    """One response; `is_last` where it says that the connection closes."""

    status: int
    body: bytes
    is_last: bool


@dataclass(frozen=True)
class Read:
    """The answers that are whole, and the bytes after them."""

    answers: tuple[Answer, ...]
    rest: bytes


def read_answers(said: bytes, *, is_head: bool = False) -> Read:
    """Split what was said; with `is_head` no answer has a body."""
    answers: list[Answer] = []
    while (found := HEAD.match(said)) is not None:
        length = LENGTH.search(found[2])
        size = int(length[1]) if length and not is_head else 0
        if len(said) < found.end() + size:
            break
        body, said = said[found.end() : found.end() + size], said[found.end() + size :]
        answers.append(Answer(int(found[1]), body, bool(CLOSE.search(found[2]))))
    return Read(tuple(answers), said)


def check_answer(answer: Answer) -> None:
    """Hold an answer against what is defined.

    Raises:
        Fault: its status is none that is defined, or its error is not one in JSON.
    """
    told = answer.body[:300]
    if answer.status not in STATUSES and not (
        answer.status == 500 and NOT_A_NUMBER.encode() in answer.body
    ):
        raise Fault(f"status {answer.status}: {told!r}")
    if answer.status < 400 or not answer.body:  # an answer to HEAD
        return
    try:
        content = json.loads(answer.body)
    except ValueError as error:
        raise Fault(f"status {answer.status} without JSON: {told!r}") from error
    is_health = answer.status == 503 and content.keys() <= {"name", "ready"}
    if not is_health and not (isinstance(content.get("error"), str) and content["error"]):
        raise Fault(f"status {answer.status} without an error: {told!r}")
