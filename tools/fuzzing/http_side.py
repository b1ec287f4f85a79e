"""Requests -> a real server, many connections at once; every answer is looked at."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.fuzzing.answers import Answer, Fault, check_answer, read_answers
from tools.fuzzing.http_requests import Sent

AT_ONCE = 48
PATIENCE_S = 20.0  # the server's own bounds are far below
SETTLED_S = 0.02  # nothing more for so long after an answer: that was all
SHOWN_BYTES = 600

Address = tuple[str, int] | Path


@dataclass
class Tally:
    """Statuses counted, and what was wrong."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


async def send_all(sent: Sequence[Sent], addresses: Sequence[Address], tally: Tally) -> None:
    """Send each over a connection of its own, in turn to each address."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, each: Sent) -> None:
        async with room:
            await _send(each, addresses[number % len(addresses)], tally)

    await asyncio.gather(*(one(number, each) for number, each in enumerate(sent)))


async def _send(sent: Sent, address: Address, tally: Tally) -> None:
    try:
        said, is_closed = await asyncio.wait_for(_talk(sent.content, address), PATIENCE_S)
        answers = _checked(sent, said, is_closed)
    except (Fault, OSError, asyncio.TimeoutError) as error:
        what = "no answer and no end" if isinstance(error, asyncio.TimeoutError) else error
        tally.faults.append(f"{what!s} after {sent.content[:SHOWN_BYTES]!r}")
        return
    tally.statuses.update(str(answer.status) for answer in answers if answer.status != 100)
    if not any(answer.status != 100 for answer in answers):
        tally.statuses["closed without a word"] += 1


async def _talk(content: bytes, address: Address) -> tuple[bytes, bool]:
    """Return what the server said, and whether it hung up."""
    if isinstance(address, Path):
        reader, writer = await asyncio.open_unix_connection(str(address))
    else:
        reader, writer = await asyncio.open_connection(*address)
    said = b""
    try:
        writer.write(content)
        await writer.drain()
        while True:
            wait_s = SETTLED_S if _is_answered(said) else PATIENCE_S
            try:
                piece = await asyncio.wait_for(reader.read(1 << 16), wait_s)
            except asyncio.TimeoutError:
                return said, False
            if not piece:
                return said, True
            said += piece
    except ConnectionError:  # it hung up while it was written to, or read from
        return said, True
    finally:
        writer.close()


def _is_answered(said: bytes) -> bool:
    read = read_answers(said)
    return bool(read.answers) and not read.rest and read.answers[-1].status != 100


def _checked(sent: Sent, said: bytes, is_closed: bool) -> tuple[Answer, ...]:
    """Return the answers.

    Raises:
        Fault: one is not as defined, or what was said is none.
    """
    read = read_answers(said)
    if read.rest and b"HEAD " in sent.content:  # which of several were to HEAD is not known
        read = read_answers(said, is_head=True)
        if not read.rest.strip():
            return read.answers
        return ()
    if read.rest:
        raise Fault(f"answered what is no whole answer: {read.rest[:200]!r}")
    for answer in read.answers:
        check_answer(answer)
    if sent.is_right and [answer.status for answer in read.answers] != [200]:
        raise Fault(f"a right request got {read.answers!r:.300}")
    if any(answer.is_last for answer in read.answers[:-1]):
        raise Fault(f"answers after the last one: {said[:500]!r}")
    if not read.answers and not is_closed:
        raise Fault("no answer")
    return read.answers
