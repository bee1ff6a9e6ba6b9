"""Talks to the Kubernetes API: the only home of the client.

Everything is plain JSON by resource, namespace and name, because typed models drop what they do not know. Writes go
by server-side apply with our field manager, or compare-and-set with a resourceVersion. Errors are ours: what may pass
is `Transient`, what was refused is `Permanent`. No retries here; who asks looks again anyway. The server is believed,
but objects are as large as somebody made them: an answer has bounds, and comes from that server alone. It is reduced to
what is read of it before another is asked for, and what one look reads and keeps over all its answers has one budget.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client, config

from weaviate_backup import answers
from weaviate_backup.api.names import (
    BACKUP_PLURAL,
    FIELD_MANAGER,
    GROUP,
    LOCATION_PLURAL,
    RESTORE_PLURAL,
    VERSION,
)
from weaviate_backup.api.resources import CLAIM, CONFIG_MAP, EVENT, POD, STATEFUL_SET, Resource
from weaviate_backup.api.stored_objects import brief, brief_metadata, shallow
from weaviate_backup.core.read_budget import ReadBudget
from weaviate_backup.errors import BackupError, Permanent, Transient, excerpt
from weaviate_backup.layout.json_bounds import MIB, TooDeep, memory_of

TIMEOUT_SECONDS = 30
MAX_SAID = 400
"""Of a refusal: an admission policy names itself and its binding before it says why."""
LIST_CHUNK = 20
"""Objects in one answer of a list; one, where so many are too large for an answer."""
OURS_BYTES = 256 * MIB
"""Of our own kinds in a namespace, of which next to nothing is kept: ten thousand of the usual size."""
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

Json = dict[str, Any]
T = TypeVar("T")
_OURS = f"/apis/{GROUP}/{VERSION}"
PODS = Resource("/api/v1", "pods", POD)
SECRETS = Resource("/api/v1", "secrets")
CONFIG_MAPS = Resource("/api/v1", "configmaps", CONFIG_MAP)
CLAIMS = Resource("/api/v1", "persistentvolumeclaims", CLAIM)
EVENTS = Resource("/api/v1", "events", EVENT)
STATEFUL_SETS = Resource("/apis/apps/v1", "statefulsets", STATEFUL_SET)
LEASES = Resource("/apis/coordination.k8s.io/v1", "leases")
BACKUPS = Resource(_OURS, BACKUP_PLURAL)
RESTORES = Resource(_OURS, RESTORE_PLURAL)
LOCATIONS = Resource(_OURS, LOCATION_PLURAL)


def in_cluster() -> bool:
    """This process runs in a pod with a service account."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and SERVICE_ACCOUNT_TOKEN.exists()


def default_namespace(*, context: str | None = None) -> str:
    """Where a person or a pod is when no namespace is named: as kubectl takes it."""
    if in_cluster() and context is None:
        return SERVICE_ACCOUNT_TOKEN.with_name("namespace").read_text()
    loader: Any = config
    try:
        contexts, active = loader.list_kube_config_contexts(os.environ.get("KUBECONFIG"))
    except config.ConfigException as error:
        raise _no_kubeconfig(error) from error
    chosen = active if context is None else next((each for each in contexts if each["name"] == context), {})
    return str(chosen.get("context", {}).get("namespace") or "default")


def _no_kubeconfig(error: Exception) -> Permanent:
    message = f"{excerpt(str(error), 160)}; set KUBECONFIG, or name another context"
    return Permanent("KubeconfigUnusable", message)


@dataclass(frozen=True)
class _Said:
    """An answer while it is its turn."""

    status: int
    body: Json
    size_bytes: int


class AlreadyExists(Permanent):
    """An object of that name is there already."""


class Conflict(Transient):
    """Somebody else changed the object meanwhile."""


class Kube:
    """One client per process. Use as an asynchronous context manager."""

    def __init__(self, api_client: Any) -> None:
        self._client = api_client
        self._closed = False

    @classmethod
    async def connect(cls, *, context: str | None = None) -> Self:
        """In a cluster with the pod's service account, elsewhere, or with a context named, as the kubeconfig says."""
        settings = client.Configuration()
        loader: Any = config  # it has no types
        if in_cluster() and context is None:
            loader.load_incluster_config(client_configuration=settings)
        else:
            # The client reads KUBECONFIG once, when it is imported.
            path = os.environ.get("KUBECONFIG")
            try:
                await loader.load_kube_config(path, context=context, client_configuration=settings)
            except config.ConfigException as error:
                raise _no_kubeconfig(error) from error
        settings.client_session_kwargs = {**answers.session_options(), "trace_configs": [_no_redirects()]}
        return cls(client.ApiClient(configuration=settings))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        self._closed = True
        await self._client.close()

    async def served(self) -> frozenset[str]:
        """Our kinds that the API server knows now, by plural: those that its whole list of groups has, too."""

        def versions(said: _Said) -> set[str]:
            groups = _checked(said, what="look for groups")["groups"]
            return {version["groupVersion"] for group in groups for version in group["versions"]}

        def plurals(said: _Said) -> frozenset[str]:
            found = _checked(said, what=f"look for {_OURS}")["resources"]
            return frozenset(each["name"] for each in found if "/" not in each["name"])

        if f"{GROUP}/{VERSION}" not in await self._call("GET", "/apis", versions):
            return frozenset()
        return await self._call("GET", _OURS, plurals)

    async def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """The object as far as it is kept, None when there is none."""
        return await self.pick_one(resource, namespace, name, answers.whole)

    async def pick_one(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        keep: Callable[[Json], T],
        *,
        budget: ReadBudget | None = None,
    ) -> T | None:
        """What is kept of the object, None when there is none."""
        what = f"get {resource.plural} {namespace}/{name}"

        def take(said: _Said) -> T | None:
            if said.status == 404:
                return None
            found = _identified(_checked(said, what=what), namespace, name, what=what)
            if resource.root == _OURS:
                found = {**found, "metadata": brief_metadata(found["metadata"])}
            kept = keep(resource.kept(found))
            if budget is not None:
                budget.spend(what, objects=1, read_bytes=said.size_bytes, kept_bytes=memory_of(kept))
            return kept

        return await self._call("GET", resource.path(namespace, name), take, whose=namespace)

    async def version(self, resource: Resource, namespace: str, name: str) -> str | None:
        """Changes with the object, None when there is none. Its content is not sent, so a Secret stays one."""
        what = f"look at {resource.plural} {namespace}/{name}"

        def take(said: _Said) -> str | None:
            if said.status == 404:
                return None
            found = _identified(_checked(said, what=what), namespace, name, what=what)
            return f"{found['metadata']['uid']}/{found['metadata']['resourceVersion']}"

        path = resource.path(namespace, name)
        return await self._call("GET", path, take, whose=namespace, accept=METADATA_ONLY)

    async def pick(
        self,
        resource: Resource,
        namespace: str,
        keep: Callable[[Json], T | None],
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        most: int | None = None,
        budget: ReadBudget | None = None,
    ) -> tuple[T, ...]:
        """What is kept of each, None for nothing, until there are `most`; of our own kinds it is seen in brief: which
        there are, and where they stand. Raises `TooManyObjects`."""
        query = {
            name: ",".join(f"{key}={value}" for key, value in wanted.items())
            for name, wanted in (("labelSelector", labels), ("fieldSelector", fields))
            if wanted
        }
        query["limit"] = str(LIST_CHUNK)
        what, kept = f"list {resource.plural} in {namespace}", list[T]()
        left = budget or (ReadBudget(read_bytes=OURS_BYTES) if resource.root == _OURS else ReadBudget())

        def take(said: _Said) -> str:
            answer = _checked(said, what=what)
            items = answer.get("items") or ()
            if len(items) > int(query["limit"]):
                message = f"{what}: the API server sent {len(items)} objects; {query['limit']} were asked for"
                raise Permanent("UnexpectedAnswer", message)
            for item in items:
                found = _identified(item, namespace, None, what=what)
                each = keep(brief(found) if resource.root == _OURS else resource.kept(found))
                if each is not None:
                    kept.append(each)
                    left.spend(what, kept_bytes=memory_of(each))
            left.spend(what, objects=max(1, len(items)), read_bytes=said.size_bytes)
            return str((answer.get("metadata") or {}).get("continue") or "")

        while True:
            try:
                query["continue"] = await self._call(
                    "GET", resource.path(namespace), take, whose=namespace, query=query
                )
            except Permanent as error:
                if error.reason != "AnswerTooLarge" or query["limit"] == "1":
                    raise
                query["limit"] = "1"
                continue
            if not query["continue"] or (most is not None and len(kept) >= most):
                return tuple(kept[:most])

    async def create(self, resource: Resource, body: Json) -> Json:
        """Raises `AlreadyExists` when the name is taken."""
        namespace = body["metadata"]["namespace"]
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        what = f"create {resource.plural} {namespace}/{_name_of(body)}"
        take = _stored(resource, namespace, body["metadata"].get("name"), what=what)
        return await self._call("POST", resource.path(namespace), take, whose=namespace, query=query, body=body)

    async def apply(self, resource: Resource, body: Json, *, subresource: str | None = None) -> Json:
        """Server-side apply: what we said before and no longer say is removed."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        return await self._call(
            "PATCH",
            resource.path(namespace, name, subresource),
            _stored(resource, namespace, name, what=f"apply {resource.plural} {namespace}/{name}"),
            whose=namespace,
            query=query,
            body=body,
            content_type="application/apply-patch+yaml",
        )

    async def replace(self, resource: Resource, body: Json) -> Json:
        """Compare-and-set by the body's resourceVersion; raises `Conflict` when it lost."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        query = {"fieldManager": FIELD_MANAGER}
        take = _stored(resource, namespace, name, what=f"replace {resource.plural} {namespace}/{name}")
        return await self._call("PUT", resource.path(namespace, name), take, whose=namespace, query=query, body=body)

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str | None = None) -> None:
        """Gone already is success; with `uid`, another object of that name is left alone."""
        body: Json = {"preconditions": {"uid": uid}} if uid else {}

        def take(said: _Said) -> None:
            if said.status not in (404, 409):
                _checked(said, what=f"delete {resource.plural} {namespace}/{name}")

        await self._call("DELETE", resource.path(namespace, name), take, whose=namespace, body=body)

    async def _call(
        self,
        method: str,
        path: str,
        take: Callable[[_Said], T],
        *,
        whose: str = "",
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> T:
        if self._closed:  # who cleans up behind a cancelled task may come late
            raise Transient("ApiServerUnavailable", f"{method} {path}: this process is ending")
        headers: dict[str, str] = {"Accept": accept, "Content-Type": content_type, "Accept-Encoding": "identity"}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._client.configuration.host + path + ("?" + urlencode(query) if query else "")
        what = f"{method} {path}"
        longest = TIMEOUT_SECONDS + answers.WAIT_SECONDS

        def taken(status: int, content: bytes) -> T:
            with answers.understood(what):
                return take(_said(status, content, what=what))

        try:
            async with asyncio.timeout(TIMEOUT_SECONDS) as clock:
                answer = await self._client.call_api(method, url, headers, body=body, _request_timeout=longest)
                async with answer.response as response:
                    return await answers.read(
                        response,
                        lambda content: taken(answer.status, content),
                        what=what,
                        limit_bytes=answers.OBJECTS.size_bytes,
                        clock=clock,
                        line=answers.API_SERVER,
                        whose=whose,
                    )
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Transient("ApiServerUnavailable", f"{what}: {excerpt(str(error)) or 'timeout'}") from error


def _said(status: int, content: bytes, *, what: str) -> _Said:
    try:
        found = _parsed(content, what=what) if content else {}
    except Permanent as error:
        if error.reason != "UnexpectedAnswer":
            raise
        found = None
    if not isinstance(found, dict):
        if status < 300:
            raise Permanent("UnexpectedAnswer", f"{what}: the API server's answer is no JSON object")
        found = {"message": excerpt(content[:1024].decode(errors="replace"))}
    return _Said(status, found, len(content))


def _parsed(content: bytes, *, what: str) -> Any:
    """Objects are as deep as somebody made them (no schema bounds their metadata), and lie beside others in a list."""
    try:
        return answers.parse(content, answers.OBJECTS, what=what)
    except Permanent as error:
        if not isinstance(error.__cause__, TooDeep):
            raise
    return answers.parse(shallow(content), answers.OBJECTS, what=what)


def _no_redirects() -> aiohttp.TraceConfig:
    """The library follows them; the bearer token is for the server that was configured."""

    async def refuse(*_: object) -> None:
        raise aiohttp.ClientPayloadError("the API server answers with a redirect; the address must be its own")

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return trace


def _checked(said: _Said, *, what: str) -> Json:
    if 200 <= said.status < 300:
        return said.body
    why = excerpt(str(said.body.get("message", "")), MAX_SAID) or f"status {said.status}"
    raise _failure(said.status, str(said.body.get("reason", "")), f"{what}: {why}")


def _stored(resource: Resource, namespace: str, name: str | None, *, what: str) -> Callable[[_Said], Json]:
    """What is taken of the answer to a write: the object as it is now, as far as it is kept."""
    return lambda said: resource.kept(_identified(_checked(said, what=what), namespace, name, what=what))


def _identified(answer: Json, namespace: str, name: str | None, *, what: str) -> Json:
    """The answer, if it is what was asked for. `name` None: any of the namespace."""
    metadata = answer.get("metadata") or {}
    if metadata.get("namespace") != namespace or name not in (None, metadata.get("name")):
        found = f"{metadata.get('namespace')}/{metadata.get('name')}"
        raise Permanent("ForeignAnswer", f"{what}: the API server answered with {excerpt(found, 80)}")
    return answer


def _failure(status: int, reason: str, message: str) -> BackupError:
    if status == 409:
        return AlreadyExists("AlreadyExists", message) if reason == "AlreadyExists" else Conflict("Conflict", message)
    if status == 403:
        denied = "PodSecurityDenied" if "PodSecurity" in message else "Forbidden"
        return Permanent(denied, message)
    if status in (401, 408, 410, 429) or status >= 500:  # 410: a listing took longer than its state is kept
        return Transient("ApiServerUnavailable", message)
    if status == 404:
        return Transient("NotServed", message)
    return Permanent("ApiServerRefused", message)


def _name_of(body: Json) -> str:
    metadata = body["metadata"]
    return str(metadata.get("name") or metadata.get("generateName"))
