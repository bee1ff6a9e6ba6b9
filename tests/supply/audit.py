"""Known vulnerabilities of the locked dependencies, as pip-audit finds them. What was not asked is said, loudly."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parents[2] / "operator" / "runtime.lock"
TIMEOUT_SECONDS = 300
VULNERABLE, UNKNOWN = 1, 2


def main() -> int:
    """The exit status: 0, `VULNERABLE`, or with `--strict` `UNKNOWN`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strict", action="store_true", help="fail when the service cannot be asked")
    parser.add_argument("--osv-url", help="another service of that protocol")
    parser.add_argument("--lock", type=Path, default=LOCK)
    chosen = parser.parse_args()
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--vulnerability-service",
        "osv",
        "--format",
        "json",
        "--timeout",
        "15",
    ]
    command += ["--require-hashes", "--disable-pip", "--no-deps", "--progress-spinner", "off"]
    command += ["--requirement", str(chosen.lock), *(("--osv-url", chosen.osv_url) if chosen.osv_url else ())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS)
    try:
        asked = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        why = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        print(f"NOT AUDITED: the dependencies were not checked for known vulnerabilities: {why}", file=sys.stderr)
        return UNKNOWN if chosen.strict else 0
    return judge(asked, strict=chosen.strict)


def judge(asked: list[dict[str, object]], *, strict: bool) -> int:
    """From pip-audit's list of dependencies, each with `vulns` or a `skip_reason`."""
    skipped = [each for each in asked if "skip_reason" in each]
    vulnerable = [each for each in asked if each.get("vulns")]
    for each in vulnerable:
        for found in each["vulns"]:  # type: ignore[attr-defined]
            fixed = ", ".join(found["fix_versions"]) or "no release"
            print(f"VULNERABLE: {each['name']} {each['version']}: {found['id']}, mended by {fixed}", file=sys.stderr)
    if skipped:
        print(f"NOT AUDITED: {', '.join(str(each['name']) for each in skipped)}", file=sys.stderr)
    print(f"{len(asked) - len(skipped)} dependencies audited, {len(vulnerable)} vulnerable")
    if vulnerable:
        return VULNERABLE
    return UNKNOWN if skipped and strict else 0


if __name__ == "__main__":
    sys.exit(main())
