"""Clients of S3 as a location asks for them, and what every request about an object carries.

A customer's key goes with each request that touches content (SSE-C): the store uses it and keeps none.
"""

import base64
import binascii
import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import boto3
import botocore.config
import botocore.exceptions
import urllib3.exceptions
from isal import isal_zlib

from weaviate_backup.api.location import CUSTOMER_KEY, S3Location
from weaviate_backup.core.credential_reach import Credential, Reach
from weaviate_backup.errors import Permanent
from weaviate_backup.storage import documents
from weaviate_backup.storage.bodies import in_pieces
from weaviate_backup.storage.s3_failures import DEFAULT_REGION

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CONNECTIONS = 64
CUSTOMER_KEY_BYTES = 32
NEVER_EMPTY = frozenset(
    {"ListObjectsV2", "DeleteObjects", "CreateMultipartUpload", "CompleteMultipartUpload", "ListMultipartUploads"}
)
"""Operations whose answer is a document."""
DIGESTED = ("DeleteObjects", "PutObjectRetention")
"""Operations that must carry a digest of their body. All stores know Content-MD5; boto3 would send a CRC32, which
stores of before 2025 do not take for one."""
_NAMED_BY_HOST = re.compile(r"(?!.+\.vpce\.)(.+\.)?(amazonaws\.com(\.cn)?|storage\.googleapis\.com|aliyuncs\.com)")
"""Where Weaviate's own client names buckets by host; private links of AWS take paths, too."""


class Addressing(StrEnum):
    """Where a request names the bucket; the values are botocore's."""

    PATH = "path"
    HOST = "virtual"
    EITHER = "auto"


def first_addressing(location: S3Location) -> Addressing:
    """As Weaviate's own client does. Most self-hosted stores know paths only, and their buckets have no host names."""
    if location.force_path_style:
        return Addressing.PATH
    if location.endpoint is None:
        return Addressing.EITHER
    named = _NAMED_BY_HOST.fullmatch(_bare_host(location)) and _has_hosts(location)
    return Addressing.HOST if named else Addressing.PATH


def may_name_by_host(location: S3Location, tried: Addressing) -> bool:
    """Whether that is left to try where a store refuses paths, and the location does not forbid it."""
    return tried is Addressing.PATH and not location.force_path_style and _has_hosts(location)


def _bare_host(location: S3Location) -> str:
    return re.sub(r":[0-9]+\Z", "", location.host or "")


def _has_hosts(location: S3Location) -> bool:
    """Whether a bucket can be part of the host's name; with TLS a certificate covers one name more, not two."""
    try:
        ipaddress.ip_address(_bare_host(location).strip("[]"))
    except ValueError:
        return not (location.secure and "." in location.bucket)
    return False


def new_session(credentials: Mapping[str, str]) -> boto3.session.Session:
    """Clients of one session share what boto3 reads of the protocol, which takes longer than a request."""
    pair = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    missing = [name for name in pair if not credentials.get(name)]
    if len(missing) == 1:
        raise Permanent(
            "CredentialsMissing",
            f"the Secret of spec.s3.credentialsSecretRef has no {missing[0]}; add that key, or take both away "
            "to use the identity of the agents",
        )
    return boto3.session.Session(
        aws_access_key_id=credentials.get("AWS_ACCESS_KEY_ID") or None,
        aws_secret_access_key=credentials.get("AWS_SECRET_ACCESS_KEY") or None,
        aws_session_token=credentials.get("AWS_SESSION_TOKEN") or None,
    )


def new_client(
    session: boto3.session.Session,
    location: S3Location,
    ca_file: str | None,
    reach: Reach,
    *,
    addressing: Addressing,
    connect_seconds: float,
    read_seconds: float,
) -> "S3Client":
    """A client that never tries again by itself."""
    endpoint = f"{'https' if location.secure else 'http'}://{location.host}" if location.endpoint else None
    config = botocore.config.Config(  # type: ignore[call-arg]  # an option that the stubs do not know
        region_name=location.region or DEFAULT_REGION,
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=connect_seconds,  # it counts while a request is sent, too
        read_timeout=read_seconds,
        max_pool_connections=CONNECTIONS,
        ignore_configured_endpoint_urls=True,  # the location says where it is, not a variable of the environment
        request_checksum_calculation="when_required",  # we say which, or none where a store takes none
        response_checksum_validation="when_required",  # what is read has hashes of ours
        s3={"addressing_style": addressing.value, "payload_signing_enabled": False},
    )
    client = session.client("s3", endpoint_url=endpoint, config=config, verify=ca_file)
    if takes_customer_key(location):
        reach.check(Credential.CUSTOMER_KEY, client.meta.endpoint_url, field="spec.s3.endpoint")
    client.meta.events.register("before-send.s3", partial(_keep_within, reach))
    for operation in DIGESTED:
        client.meta.events.register(f"request-created.s3.{operation}", _digest)
    client.meta.events.register("before-parse.s3", _refuse_cut_document)
    session_of_client: Any = client._endpoint.http_session  # type: ignore[attr-defined]  # no hook sees an answer first
    client.meta.events.register("before-send.s3", partial(_send, session_of_client))
    return client


def _digest(request: Any, **_: Any) -> None:
    """Before it is signed."""
    for name in [name for name in request.headers if name.lower().startswith(("x-amz-checksum-", "x-amz-sdk-"))]:
        del request.headers[name]
    request.headers["Content-MD5"] = md5_of((memoryview(request.data),))


def _keep_within(reach: Reach, request: Any, **_: Any) -> None:
    reach.check_request(request.url, request.headers)


def _send(session: Any, request: Any, **_: Any) -> Any:
    """Instead of botocore: in pieces, and an answer that is a document has bounds before it is read."""
    request.body = in_pieces(request.body)
    is_content, request.stream_output = request.stream_output, True  # else it is read at once, whatever its size
    answer = session.send(request)
    documents.bound(answer.raw)
    if not is_content:
        _read_document(answer, request.url)
    return answer


def _read_document(answer: Any, url: str) -> None:
    """With failures as botocore names them."""
    try:
        _ = answer.content
    except urllib3.exceptions.ReadTimeoutError as error:
        raise botocore.exceptions.ReadTimeoutError(endpoint_url=url, error=error) from error
    except urllib3.exceptions.ProtocolError as error:
        raise botocore.exceptions.ConnectionClosedError(endpoint_url=url, error=error) from error
    except urllib3.exceptions.HTTPError as error:
        raise botocore.exceptions.HTTPClientError(error=error) from error


def _refuse_cut_document(operation_model: Any, response_dict: Mapping[str, Any], **_: Any) -> None:
    """botocore does not compare a document's length with what was announced, and takes an empty listing for an empty
    bucket, an empty answer to a deletion for one without errors."""
    body, announced = response_dict["body"], response_dict["headers"].get("content-length")
    if not isinstance(body, bytes) or operation_model.http.get("method") == "HEAD":
        return
    expected_bytes = int(announced) if announced else len(body)
    if response_dict["status_code"] == 200 and operation_model.name in NEVER_EMPTY:
        expected_bytes = max(1, expected_bytes)
    if len(body) != expected_bytes:
        raise botocore.exceptions.IncompleteReadError(actual_bytes=len(body), expected_bytes=expected_bytes)


def crc32_of(content: Iterable[memoryview]) -> str:
    """As a request carries it: big-endian, in base64. What a request lacks botocore adds, at zlib's pace."""
    checksum = 0
    for piece in content:
        checksum = isal_zlib.crc32(piece, checksum)
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()


def md5_of(content: Iterable[memoryview]) -> str:
    """As a request carries it. No secret hangs on it: a store compares what arrived with it."""
    digest = hashlib.md5(usedforsecurity=False)
    for piece in content:
        digest.update(piece)
    return base64.b64encode(digest.digest()).decode()


def object_options(location: S3Location) -> dict[str, Any]:
    """What is said of an object when it is begun."""
    options: dict[str, Any] = {"ContentType": "application/octet-stream"}
    if location.storage_class:
        options["StorageClass"] = location.storage_class
    if location.tags:
        options["Tagging"] = urlencode(location.tags)
    if location.metadata:
        options["Metadata"] = location.metadata
    encryption = location.server_side_encryption
    if encryption and not encryption.customer_key_secret_ref:
        options["ServerSideEncryption"] = encryption.algorithm
        if encryption.kms_key_id:
            options["SSEKMSKeyId"] = encryption.kms_key_id
    return options


def takes_customer_key(location: S3Location) -> bool:
    encryption = location.server_side_encryption
    return encryption is not None and encryption.customer_key_secret_ref is not None


def key_options(location: S3Location, credentials: Mapping[str, str]) -> dict[str, Any]:
    """The customer's key, for every request that touches an object's content or size."""
    encryption = location.server_side_encryption
    if encryption is None or encryption.customer_key_secret_ref is None:
        return {}
    reference = encryption.customer_key_secret_ref
    where = f"the Secret {reference.name!r} of spec.s3.serverSideEncryption.customerKeySecretRef"
    given = credentials.get(CUSTOMER_KEY)
    if not given:
        raise Permanent("CredentialsMissing", f"{where} has no {reference.key}; add 32 random bytes in base64 there")
    try:
        key = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Permanent("CredentialsInvalid", f"{where}: {reference.key} is no base64; it must be 32 bytes") from error
    if len(key) != CUSTOMER_KEY_BYTES:
        raise Permanent("CredentialsInvalid", f"{where}: {reference.key} holds {len(key)} bytes; it must hold 32")
    return {"SSECustomerAlgorithm": encryption.algorithm, "SSECustomerKey": key}
