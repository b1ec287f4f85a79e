"""A raw ASGI application under uvicorn or granian, one worker, no access log."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from protocol import HEADER_LENGTH, Work, answer, make_parser, make_work, shape_of

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


def make_app(work: Work, shape: list[int]) -> App:
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        parts, is_more = [], True
        while is_more:
            message = await receive()
            parts.append(message.get("body", b""))
            is_more = message.get("more_body", False)
        header_length = int(dict(scope["headers"]).get(HEADER_LENGTH, 0))
        told, output = b"", b""
        if header_length:  # else a health check
            told, output = answer(b"".join(parts), header_length, work, shape)
        headers = [
            (b"content-length", b"%d" % (len(told) + len(output))),
            (HEADER_LENGTH, b"%d" % len(told)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": told + output})

    return app


def run_uvicorn(app: App, port: int) -> None:
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False,
                http="httptools", loop="asyncio", lifespan="off")  # fmt: skip


def run_granian(model: Path | None, shape: str, port: int) -> None:
    from granian import Granian
    from granian.constants import Interfaces

    os.environ["MODEL"], os.environ["SHAPE"] = str(model or ""), shape
    server = Granian("asgi:app_of_environment", factory=True, address="127.0.0.1", port=port,
                     interface=Interfaces.ASGINL, workers=1, log_enabled=False)  # fmt: skip
    server.serve()


def app_of_environment() -> App:
    """Return the application in granian's worker, which finds it by name."""
    model = os.environ["MODEL"]
    return make_app(make_work(Path(model) if model else None), shape_of(os.environ["SHAPE"]))


def main() -> None:
    parser = make_parser()
    parser.add_argument("--server", choices=("uvicorn", "granian"), required=True)
    options = parser.parse_args()
    if options.server == "uvicorn":
        run_uvicorn(make_app(make_work(options.model), shape_of(options.shape)), options.port)
    else:
        run_granian(options.model, options.shape, options.port)


if __name__ == "__main__":
    main()
