"""gRPC to Weaviate's internal ports: plaintext channels, and one judge of what a failed call means.

Both internal services speak plaintext HTTP/2 without TLS; only the data port knows credentials. The server takes
messages of 1 GiB, and so may we send them. What we take is a share of our memory: a sharding state of a hundred
thousand tenants is tens of megabytes. gRPC refuses a larger message by its announced length, and a packed one while it
unpacks it.
"""

import base64
from dataclasses import dataclass

import grpc

from weaviate_backup.answers import document_bounds
from weaviate_backup.errors import BackupError, Permanent, Transient, excerpt

SEND_LIMIT_BYTES = 1 << 30


@dataclass(frozen=True)
class ClusterCredentials:
    """Basic authentication of Weaviate's data port: `CLUSTER_BASIC_AUTH_USERNAME` and `_PASSWORD` of the server."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "ClusterCredentials(…)"

    def header(self) -> str:
        """The value of the `authorization` header or metadata entry."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def call_metadata(credentials: ClusterCredentials | None) -> tuple[tuple[str, str], ...]:
    """What a call to the data port carries; nothing where the cluster has no basic authentication."""
    return (("authorization", credentials.header()),) if credentials else ()


def url_host(host: str) -> str:
    """A host as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def open_channel(host: str, port: int, *, limit_bytes: int | None = None) -> grpc.aio.Channel:
    """A lazy channel: nothing is sent before the first call. The caller closes it. `limit_bytes`: of what comes."""
    return grpc.aio.insecure_channel(
        f"{url_host(host)}:{port}",
        options=[
            ("grpc.max_receive_message_length", limit_bytes or document_bounds().size_bytes),
            ("grpc.max_send_message_length", SEND_LIMIT_BYTES),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ],
    )


def text_of(error: grpc.aio.AioRpcError) -> str:
    """What the server said, for a message."""
    return excerpt(error.details() or error.code().name)


def is_too_large(error: grpc.aio.AioRpcError) -> bool:
    """A message passed the limit of its receiver, us or the server."""
    return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than" in text_of(error)


def failure_of(error: grpc.aio.AioRpcError, *, what: str) -> BackupError:
    """What a failed call means when its meaning is the same for every call; `what` names the call and its target."""
    code, said = error.code(), text_of(error)
    if code in NO_ANSWER:
        return Transient("ServerUnavailable", f"{what}: no answer from Weaviate ({said})")
    if code is grpc.StatusCode.INTERNAL and any(word in said for word in LOST_LEADER):
        return Transient("ServerUnavailable", f"{what}: no answer from the raft leader ({said})")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Transient("ServerTimeout", f"{what}: Weaviate did not answer in time")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and not is_too_large(error):
        return Transient("NoRaftLeader", f"{what}: the cluster has no raft leader ({said})")
    reason, explanation = EXPLAINED.get(code, ("ServerRefused", f"{code.name}: {said}"))
    return Permanent(reason, f"{what}: {explanation}")


def wrong_credentials(what: str) -> Permanent:
    """What the data port's 401 means, over HTTP as over gRPC."""
    reason, explanation = EXPLAINED[grpc.StatusCode.UNAUTHENTICATED]
    return Permanent(reason, f"{what}: {explanation}")


NO_ANSWER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)
LOST_LEADER = ("code = Unavailable", "code = Canceled", "code = DeadlineExceeded")
"""What a server says, as an internal error, when it asked the leader for us and lost it (`cluster/rpc/client.go`)."""
EXPLAINED = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        "MessageTooLarge",
        "a message is larger than the receiver takes; raise RAFT_GRPC_MESSAGE_MAX_SIZE on the servers, and the memory "
        "limit of the agents (spec.agent.resources), which take an eighth of it",
    ),
    grpc.StatusCode.UNAUTHENTICATED: (
        "ClusterAuthenticationFailed",
        "the data port refused the credentials; the Secret with CLUSTER_BASIC_AUTH_USERNAME and _PASSWORD must hold "
        "what the running pods use (a chart rendered anew may hold another password: restart the pods then)",
    ),
    grpc.StatusCode.UNIMPLEMENTED: ("CallNotImplemented", "this server does not know the call"),
}
