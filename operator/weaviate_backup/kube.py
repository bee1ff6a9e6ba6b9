"""Talks to the Kubernetes API: the only home of the client.

Everything is plain JSON by resource, namespace and name, because typed models drop what they do not know. Writes go
by server-side apply with our field manager, or compare-and-set with a resourceVersion. Errors are ours: what may pass
is `Transient`, what was refused is `Permanent`. No retries here; who asks looks again anyway. The server is believed,
but objects are as large as somebody made them: an answer has bounds, and comes from that server alone.
"""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

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
from weaviate_backup.api.patterns import MAX_NAME_LENGTH, OBJECT_NAME, fits
from weaviate_backup.api.stored_objects import brief, brief_metadata, shallow
from weaviate_backup.errors import BackupError, InvalidInput, Permanent, Transient, excerpt
from weaviate_backup.layout.json_bounds import TooDeep

TIMEOUT_SECONDS = 30
MAX_SAID = 400
"""Of a refusal: an admission policy names itself and its binding before it says why."""
LIST_CHUNK = 20
"""Objects in one answer of a list."""
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

Json = dict[str, Any]


@dataclass(frozen=True)
class Resource:
    """A kind of object: where the API server has it."""

    root: str
    plural: str

    def path(self, namespace: str, name: str | None = None, subresource: str | None = None) -> str:
        """Of one object, or of all in the namespace. Raises `InvalidInput` for what is no name: it would be the path
        of something else."""
        parts = [self.root, "namespaces", _segment(namespace, "a namespace"), self.plural]
        parts += [_segment(part, f"one of {self.plural}") for part in (name, subresource) if part is not None]
        return "/".join(parts)


_OURS = f"/apis/{GROUP}/{VERSION}"
PODS = Resource("/api/v1", "pods")
SECRETS = Resource("/api/v1", "secrets")
CONFIG_MAPS = Resource("/api/v1", "configmaps")
CLAIMS = Resource("/api/v1", "persistentvolumeclaims")
EVENTS = Resource("/api/v1", "events")
STATEFUL_SETS = Resource("/apis/apps/v1", "statefulsets")
LEASES = Resource("/apis/coordination.k8s.io/v1", "leases")
BACKUPS = Resource(_OURS, BACKUP_PLURAL)
RESTORES = Resource(_OURS, RESTORE_PLURAL)
LOCATIONS = Resource(_OURS, LOCATION_PLURAL)


def _segment(name: str, what: str) -> str:
    """A name as one part of a path. Quoting would not be enough: client libraries resolve `..` and `%2e%2e`."""
    if len(name) > MAX_NAME_LENGTH or not fits(OBJECT_NAME, name):
        message = f"{excerpt(repr(name), 80)} cannot be the name of {what}; use lower case letters, digits, '-' and '.'"
        raise InvalidInput("NameInvalid", message)
    return quote(name, safe="")


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
        status, body = await self._call("GET", "/apis")
        groups = _checked(status, body, what="look for groups")
        with answers.understood("look for groups"):
            known = {version["groupVersion"] for group in groups["groups"] for version in group["versions"]}
        if f"{GROUP}/{VERSION}" not in known:
            return frozenset()
        status, body = await self._call("GET", _OURS)
        found = _checked(status, body, what=f"look for {_OURS}")
        with answers.understood(f"look for {_OURS}"):
            return frozenset(each["name"] for each in found["resources"] if "/" not in each["name"])

    async def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """The object, None when there is none."""
        status, body = await self._call("GET", resource.path(namespace, name))
        if status == 404:
            return None
        what = f"get {resource.plural} {namespace}/{name}"
        found = _identified(_checked(status, body, what=what), namespace, name, what=what)
        return {**found, "metadata": brief_metadata(found["metadata"])} if resource.root == _OURS else found

    async def version(self, resource: Resource, namespace: str, name: str) -> str | None:
        """Changes with the object, None when there is none. Its content is not sent, so a Secret stays one."""
        status, body = await self._call("GET", resource.path(namespace, name), accept=METADATA_ONLY)
        if status == 404:
            return None
        what = f"look at {resource.plural} {namespace}/{name}"
        found = _identified(_checked(status, body, what=what), namespace, name, what=what)
        with answers.understood(what):
            return f"{found['metadata']['uid']}/{found['metadata']['resourceVersion']}"

    async def list(
        self,
        resource: Resource,
        namespace: str,
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[Json]:
        """Of our own kinds in brief: which there are, and where they stand."""
        query = {
            name: ",".join(f"{key}={value}" for key, value in wanted.items())
            for name, wanted in (("labelSelector", labels), ("fieldSelector", fields))
            if wanted
        }
        query["limit"] = str(LIST_CHUNK)
        what, found = f"list {resource.plural} in {namespace}", list[Json]()
        while True:
            status, body = await self._call("GET", resource.path(namespace), query=query)
            answer = _checked(status, body, what=what)
            with answers.understood(what):
                items = [_identified(item, namespace, None, what=what) for item in answer.get("items") or ()]
                found += [brief(item) for item in items] if resource.root == _OURS else items
                query["continue"] = str((answer.get("metadata") or {}).get("continue") or "")
            if not query["continue"]:
                return found

    async def create(self, resource: Resource, body: Json) -> Json:
        """Raises `AlreadyExists` when the name is taken."""
        namespace = body["metadata"]["namespace"]
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        status, answer = await self._call("POST", resource.path(namespace), query=query, body=body)
        what = f"create {resource.plural} {namespace}/{_name_of(body)}"
        return _identified(_checked(status, answer, what=what), namespace, body["metadata"].get("name"), what=what)

    async def apply(self, resource: Resource, body: Json, *, subresource: str | None = None) -> Json:
        """Server-side apply: what we said before and no longer say is removed."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        status, answer = await self._call(
            "PATCH",
            resource.path(namespace, name, subresource),
            query=query,
            body=body,
            content_type="application/apply-patch+yaml",
        )
        what = f"apply {resource.plural} {namespace}/{name}"
        return _identified(_checked(status, answer, what=what), namespace, name, what=what)

    async def replace(self, resource: Resource, body: Json) -> Json:
        """Compare-and-set by the body's resourceVersion; raises `Conflict` when it lost."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        query = {"fieldManager": FIELD_MANAGER}
        status, answer = await self._call("PUT", resource.path(namespace, name), query=query, body=body)
        what = f"replace {resource.plural} {namespace}/{name}"
        return _identified(_checked(status, answer, what=what), namespace, name, what=what)

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str | None = None) -> None:
        """Gone already is success; with `uid`, another object of that name is left alone."""
        body: Json = {"preconditions": {"uid": uid}} if uid else {}
        status, answer = await self._call("DELETE", resource.path(namespace, name), body=body)
        if status not in (404, 409):
            _checked(status, answer, what=f"delete {resource.plural} {namespace}/{name}")

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> tuple[int, Json]:
        if self._closed:  # who cleans up behind a cancelled task may come late
            raise Transient("ApiServerUnavailable", f"{method} {path}: this process is ending")
        headers: dict[str, str] = {"Accept": accept, "Content-Type": content_type, "Accept-Encoding": "identity"}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._client.configuration.host + path + ("?" + urlencode(query) if query else "")
        what = f"{method} {path}"
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                answer = await self._client.call_api(method, url, headers, body=body, _request_timeout=TIMEOUT_SECONDS)
                async with answer.response as response:
                    content = await answers.read(response, what=what, limit_bytes=answers.OBJECTS.size_bytes)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Transient("ApiServerUnavailable", f"{what}: {excerpt(str(error)) or 'timeout'}") from error
        try:
            found = _parsed(content, what=what) if content else {}
        except Permanent as error:
            if error.reason != "UnexpectedAnswer":
                raise
            found = None
        if isinstance(found, dict):
            return answer.status, found
        if answer.status < 300:
            raise Permanent("UnexpectedAnswer", f"{what}: the API server's answer is no JSON object")
        return answer.status, {"message": excerpt(content[:1024].decode(errors="replace"))}


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


def _checked(status: int, body: Json, *, what: str) -> Json:
    if 200 <= status < 300:
        return body
    said = excerpt(str(body.get("message", "")), MAX_SAID) or f"status {status}"
    raise _failure(status, str(body.get("reason", "")), f"{what}: {said}")


def _identified(answer: Json, namespace: str, name: str | None, *, what: str) -> Json:
    """The answer, if it is what was asked for. `name` None: any of the namespace."""
    with answers.understood(what):
        metadata = answer.get("metadata") or {}
        identity = metadata.get("namespace"), metadata.get("name")
    if identity[0] != namespace or name not in (None, identity[1]):
        found = f"{identity[0]}/{identity[1]}"
        raise Permanent("ForeignAnswer", f"{what}: the API server answered with {excerpt(found, 80)}")
    return answer


def _failure(status: int, reason: str, message: str) -> BackupError:
    if status == 409:
        return AlreadyExists("AlreadyExists", message) if reason == "AlreadyExists" else Conflict("Conflict", message)
    if status == 403:
        denied = "PodSecurityDenied" if "PodSecurity" in message else "Forbidden"
        return Permanent(denied, message)
    if status in (401, 408, 429) or status >= 500:
        return Transient("ApiServerUnavailable", message)
    if status == 404:
        return Transient("NotServed", message)
    return Permanent("ApiServerRefused", message)


def _name_of(body: Json) -> str:
    metadata = body["metadata"]
    return str(metadata.get("name") or metadata.get("generateName"))
