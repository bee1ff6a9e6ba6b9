"""Stores that speak S3, but not all of it: each a mode of the line before a real one, in the words of who does so."""

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from tests.storage.dialects import S3, Verb
from tests.storage.faults import Answer, Edit, Headers, Request
from tests.storage.faulty_line import Fits, Line

Mode = Callable[[Line], None]
CHECKSUMS = ("x-amz-checksum-", "x-amz-sdk-checksum-")


def said(status: int, code: str, message: str) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return Answer(status, body, (("Content-Type", "application/xml"),))


def refuses(fits: Fits, answer: Answer) -> Mode:
    return lambda line: line.fail(fits, answer, times=None)


def deletes_many(request: Request) -> bool:
    return request.method == "POST" and "delete" in parse_qs(urlsplit(request.path).query, keep_blank_values=True)


def without_md5(request: Request) -> bool:
    return deletes_many(request) and "content-md5" not in request.headers


def carries_checksums(request: Request) -> bool:
    return any(name.startswith(CHECKSUMS) for name in request.headers)


def answers_parts(**headers: str | None) -> Mode:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda line: line.fail(S3.is_verb(Verb.PART), Headers(named), times=None)


def wants_equal_parts(line: Line) -> None:
    """As Cloudflare's R2: all but the last are of one size, or the end of the upload is refused."""

    def are_unequal(request: Request) -> bool:
        if not S3.is_verb(Verb.COMPLETE)(request):
            return False
        upload, sizes = _upload(request), dict[int, str]()
        for each in line.requests:
            if S3.is_verb(Verb.PART)(each) and _upload(each) == upload:
                sizes[int(_of(each, "partNumber"))] = each.headers["content-length"]
        return len({sizes[number] for number in sizes if number < max(sizes)}) > 1

    line.fail(are_unequal, said(400, "InvalidPart", "All non-trailing parts must have the same length."), times=None)


def lists_uploads_by_key(line: Line) -> None:
    """As MinIO did: of unfinished uploads only those of the very key."""

    def cut(answer: bytes) -> bytes:
        prefix = re.search(rb"<Prefix>(.*?)</Prefix>", answer, re.DOTALL)
        wanted = prefix[1] if prefix else b""
        return re.sub(
            rb"<Upload>.*?</Upload>",
            lambda found: found[0] if b"<Key>" + wanted + b"</Key>" in found[0] else b"",
            answer,
            flags=re.DOTALL,
        )

    line.fail(lambda request: request.method == "GET" and "uploads" in _query(request), Edit(cut), times=None)


def _query(request: Request) -> dict[str, list[str]]:
    return parse_qs(urlsplit(request.path).query, keep_blank_values=True)


def _of(request: Request, name: str) -> str:
    return _query(request).get(name, [""])[0]


def _upload(request: Request) -> tuple[str, str]:
    return urlsplit(request.path).path, _of(request, "uploadId")


FORBIDDEN = said(403, "SecondLevelDomainForbidden", "Please use virtual hosted style to access.")
UNSUPPORTED = "Unsupported header 'x-amz-checksum-crc32' received for this API call."
MODES: dict[str, Mode] = {
    "deletion without Content-MD5": refuses(
        without_md5, said(400, "MissingContentMD5", "Missing required header for this request: Content-Md5.")
    ),
    "deletion without Content-MD5, in other words": refuses(
        without_md5, said(400, "InvalidRequest", "Content-MD5 is missing")
    ),
    "deletion of many, 501": refuses(deletes_many, said(501, "NotImplemented", "not implemented")),
    "deletion of many, 405": refuses(deletes_many, said(405, "MethodNotAllowed", "not allowed")),
    "deletion of many, 400": refuses(deletes_many, said(400, "InvalidArgument", "POST requires exactly one object")),
    "checksums, 400": refuses(carries_checksums, said(400, "InvalidArgument", UNSUPPORTED)),
    "checksums, 400 without a word": refuses(carries_checksums, said(400, "BadRequest", "")),
    "checksums, 501": refuses(
        carries_checksums, said(501, "NotImplemented", "Header 'x-amz-checksum-crc32' not implemented")
    ),
    "checksums, 501 without a word": refuses(carries_checksums, said(501, "NotImplemented", "")),
    "checksums, 403": refuses(
        carries_checksums, said(403, "AccessDenied", "x-amz-checksum-algorithm is not allowed here")
    ),
    "checksums, not signed": refuses(carries_checksums, said(403, "SignatureDoesNotMatch", "Check your key.")),
    "checksums of parts alone": refuses(
        lambda request: carries_checksums(request) and S3.is_verb(Verb.PART)(request),
        said(400, "InvalidArgument", UNSUPPORTED),
    ),
    "checksums in answers: none": answers_parts(x_amz_checksum_crc32=None),
    "checksums in answers: composite": answers_parts(
        x_amz_checksum_crc32="sTbX7g==-2", x_amz_checksum_type="COMPOSITE"
    ),
    "checksums in answers: another's": answers_parts(
        x_amz_checksum_crc32=None, x_amz_checksum_crc64nvme="AAAAAAAAAAA=", x_amz_checksum_type="FULL_OBJECT"
    ),
    "checksums in answers: only a type": answers_parts(x_amz_checksum_crc32=None, x_amz_checksum_type="FULL_OBJECT"),
    "uploads listed by their key alone": lists_uploads_by_key,
    "parts of one size": wants_equal_parts,
    "conditions, 501": refuses(
        lambda request: "if-none-match" in request.headers, said(501, "NotImplemented", "If-None-Match")
    ),
    "conditions and checksums, 501": refuses(
        lambda request: "if-none-match" in request.headers or carries_checksums(request),
        said(501, "NotImplemented", "A header you provided implies functionality that is not implemented"),
    ),
}
"""By what the store does not take, or how it answers."""
