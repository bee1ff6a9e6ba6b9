"""The agent's HTTPS face: three routes, mutual TLS 1.3, errors as JSON. It decides nothing; the runner does.

Only the operator may speak: its certificate must be signed by this operation's own authority and name `operator`.
"""

import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from weaviate_backup.agent.runner import OutOfOrder, Runner, disk_failure
from weaviate_backup.core.session import NodeReport, SessionOrder, StepCommand
from weaviate_backup.errors import BackupError, Permanent, Transient, excerpt

CLIENT_NAME = "operator"
BODY_LIMIT_BYTES = 16 << 20
"""An order names all collections of a cluster."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Body = TypeVar("Body", bound=BaseModel)
log = logging.getLogger(__name__)


def make_app(runner: Runner) -> web.Application:
    """The routes of the contract."""

    async def put_session(request: web.Request) -> web.Response:
        return answer(runner.put_session(await read(request, SessionOrder)))

    async def take_step(request: web.Request) -> web.Response:
        return answer(runner.take(await read(request, StepCommand)))

    async def report(request: web.Request) -> web.Response:
        try:
            after = int(request.query["after"]) if "after" in request.query else None
            wait_seconds = float(request.query.get("wait_seconds", "0"))
        except ValueError as error:
            raise Permanent("InvalidRequest", "after and wait_seconds must be numbers") from error
        return answer(await runner.report(after=after, wait_seconds=wait_seconds))

    app = web.Application(middlewares=[errors_as_json, operator_only], client_max_size=BODY_LIMIT_BYTES)
    app.add_routes(
        [
            web.put("/v1/session", put_session),
            web.post("/v1/steps", take_step),
            web.get("/v1/report", report),
        ]
    )
    return app


def server_context(directory: Path) -> ssl.SSLContext:
    """TLS 1.3 with our certificate, for clients of the operation's authority only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
        context.load_verify_locations(directory / "ca.crt")
    except (OSError, ssl.SSLError) as error:
        raise Permanent(
            "CertificatesUnusable", f"ca.crt, tls.crt and tls.key in {directory} must hold this agent's certificates"
        ) from error
    return context


@web.middleware
async def operator_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    transport = request.transport
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    if common_name(certificate) != CLIENT_NAME:
        raise Permanent("PermissionDenied", f"the client's certificate must name {CLIENT_NAME!r}")
    return await handler(request)


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except BackupError as error:
        return web.json_response({"reason": error.reason, "message": error.message}, status=status_of(error))
    except web.HTTPException as error:
        return web.json_response({"reason": "InvalidRequest", "message": error.reason}, status=error.status)
    except OSError as error:
        log.warning("%s %s: %s", request.method, request.path, error)
        failure = disk_failure(error)
        answer = {"reason": failure.reason, "message": failure.message}
        return web.json_response(answer, status=503 if failure.transient else 422)


def status_of(error: BackupError) -> int:
    if isinstance(error, OutOfOrder):
        return 409
    if isinstance(error, Transient):
        return 503
    return {"PermissionDenied": 403, "InvalidRequest": 400}.get(error.reason, 422)


async def read(request: web.Request, model: type[Body]) -> Body:
    """The body as `model`; what is wrong with it is named by field, without its value."""
    try:
        return model.model_validate_json(await request.read())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        raise Permanent("InvalidRequest", f"{model.__name__}.{field}: {excerpt(first['msg'])}") from error


def answer(report: NodeReport) -> web.Response:
    return web.Response(text=report.model_dump_json(), content_type="application/json")


def common_name(certificate: Any) -> str | None:
    """Of a peer certificate as the `ssl` module shows it."""
    for part in (certificate or {}).get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return None
