"""The web application: the route table on Quart, contained, with one form of errors."""

from __future__ import annotations

from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map

from iac.errors import IacError
from iac.web import (
    access,
    agent_control,
    agent_routes,
    agent_tasks,
    containment,
    docs,
    errors,
    inputs,
    known,
    log_reading,
    logs,
    openapi,
    pools,
    states,
    tasks,
    workspaces,
)
from iac.web.agent_auth import asked_path, authenticator, peer
from iac.web.platform import Platform
from iac.web.routing import KIB, Api
from iac.web.ui import app as ui
from iac.web.ui import mistakes
from iac.web.ui.gate import Gate, signed_in_or
from iac.web.ui.pages import Ui

_AREAS = (
    *(workspaces, inputs, tasks, known, logs, log_reading, states, pools, access),
    *(agent_routes, agent_tasks, agent_control),
)
OTHER_LIMIT = 64 * KIB
"""The largest body, in bytes, of a request that fits no operation."""


def api_of(platform: Platform) -> Api:
    """The route table."""
    api = Api()
    for area in _AREAS:
        area.declare(api, platform)
    return api


def create_app(platform: Platform) -> QuartTrio:
    """The application; serve it with iac.web.serving."""
    app = QuartTrio("iac", static_folder=None)
    api, pages = api_of(platform), ui.ui_of(platform)
    # Installed before the routes: the refusal of a large body comes before everything else.
    containment.install(app, body_limit=_body_limits(app, api, pages))
    gate = Gate(platform.database)
    as_page = mistakes.pages(gate, pages.navigation)

    def seen(error: IacError) -> None:
        platform.incidents.see(error, asked_path(), peer())
        if error.code == "db_unavailable":
            platform.news.trouble()

    errors.install(app, seen, as_page)
    authenticate = signed_in_or(authenticator(platform.database), gate)
    api.register(app, authenticate)
    agent_control.install(app, platform, authenticate)
    document = openapi.document(api.operations)

    async def openapi_json() -> Response:
        return Response(document, content_type="application/json")

    async def docs_page() -> Response:
        return Response(docs.page(api.operations), content_type="text/html; charset=utf-8", headers=docs.HEADERS)

    app.add_url_rule("/api/v1/openapi.json", view_func=openapi_json, methods=["GET"])

    app.add_url_rule("/docs", view_func=docs_page, methods=["GET"])
    ui.install(app, platform, gate, pages)
    return app


class _Limits:
    """The body limit of the operation that a request is for, before the request exists."""

    def __init__(self, rules: Map, limits: dict[str, int]) -> None:
        self._rules = rules
        self._limits = limits

    def __call__(self, method: str, path: str) -> int:
        try:
            endpoint, _ = self._rules.bind("").match(path, method)
        except HTTPException:
            return OTHER_LIMIT
        return self._limits.get(endpoint, OTHER_LIMIT)


def _body_limits(app: QuartTrio, api: Api, pages: Ui) -> _Limits:
    limits = {operation.name: operation.limit for operation in api.operations}
    return _Limits(app.url_map, limits | {deed.endpoint: deed.limit for deed in pages.deeds})
