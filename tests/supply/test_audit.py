"""The audit tells a vulnerable dependency, a sound one, and a service that does not answer apart."""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

AUDIT = Path(__file__).resolve().parents[1] / "audit"
LOCK = "urllib3==2.0.0 --hash=sha256:" + "0" * 64 + "\nidna==3.0 --hash=sha256:" + "0" * 64 + "\n"
ADVISORY = {
    "id": "GHSA-test",
    "summary": "a hole",
    "affected": [
        {
            "package": {"name": "urllib3", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0.7"}]}],
        }
    ],
}


class _Service(BaseHTTPRequestHandler):
    """Speaks OSV's protocol: one question per package and version."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = {"vulns": [ADVISORY]} if asked["package"]["name"] == "urllib3" else {}
        content = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()


def _audit(tmp_path: Path, lock: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "lock"
    path.write_text(lock)
    command = [str(AUDIT), "--lock", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_vulnerable_dependency_fails_the_audit(tmp_path: Path, service: str) -> None:
    done = _audit(tmp_path, LOCK, "--osv-url", service)
    assert done.returncode == 1, done
    assert "VULNERABLE: urllib3 2.0.0: GHSA-test, mended by 2.0.7" in done.stderr


def test_sound_dependencies_pass(tmp_path: Path, service: str) -> None:
    done = _audit(tmp_path, LOCK.splitlines()[1], "--osv-url", service, "--strict")
    assert done.returncode == 0, done
    assert "1 dependencies audited, 0 vulnerable" in done.stdout


def test_no_answer_is_said_and_never_taken_for_sound(tmp_path: Path) -> None:
    nobody = ("--osv-url", "http://127.0.0.1:9/v1/query")
    done = _audit(tmp_path, LOCK, *nobody)
    assert (done.returncode, "NOT AUDITED" in done.stderr) == (0, True), done
    assert _audit(tmp_path, LOCK, *nobody, "--strict").returncode == 2
