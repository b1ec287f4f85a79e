"""DataPlane and Admin -> the ASGI app that speaks the Open Inference Protocol over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from edgeq.serve.admin import AdminRoutes
from edgeq.serve.answers import http_error
from edgeq.serve.data_plane import Admin, DataPlane
from edgeq.serve.infer import InferEndpoint, InferOptions, RequestRecord
from edgeq.serve.models import ModelRoutes, SharedMemoryRoutes
from edgeq.serve.rights import Rights
from edgeq.serve.statistics import Statistics

__all__ = ["HttpOptions", "RequestRecord", "make_app"]


@dataclass(frozen=True)
class HttpOptions:
    """What the app has to know: `page` makes the status page, `token` opens admin calls on TCP."""

    token: str | None
    max_body_bytes: int
    timeout_s: float
    page: Callable[[], str]


def make_app(
    data_plane: DataPlane,
    admin: Admin,
    options: HttpOptions,
    on_request: Callable[[RequestRecord], None],
) -> Starlette:
    """Return the app; `on_request` is called on its event loop once per infer request."""
    bounds = InferOptions(options.max_body_bytes, options.timeout_s)
    statistics, rights = Statistics(), Rights(options.token)
    infer = InferEndpoint(data_plane, bounds, statistics, on_request)
    app = Starlette(
        routes=[
            Route("/v2/models/{name}/infer", infer, methods=["POST"]),
            Route("/v2/models/{name}/versions/{version}/infer", infer, methods=["POST"]),
            *ModelRoutes(data_plane, bounds, statistics, rights).routes(),
            *SharedMemoryRoutes().routes(),
            *AdminRoutes(admin, bounds, rights, options.page).routes(),
        ],
        exception_handlers={HTTPException: http_error},
    )
    app.router.redirect_slashes = False  # a client that does not follow gets a JSON 404 instead
    return app
