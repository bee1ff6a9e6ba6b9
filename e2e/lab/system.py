"""What the lab needs of the machine itself: Linux, root, and a handful of programs that every distribution has.

On Debian and its relatives what is missing is installed with apt; elsewhere the message says what to install.
"""

import os
import platform
import shutil
import subprocess
from pathlib import Path

from e2e.lab.progress import step

PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "runc": "runc",
    "debootstrap": "debootstrap",
}
"""Command and the Debian package that holds it."""

_NETWORK_PLUGINS = ("bridge", "host-local", "loopback")
_NETWORK_PLUGIN_DIRECTORIES = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))


class Unsuitable(Exception):
    """This machine cannot run the lab; the message says why and what helps."""


def require_suitable_machine() -> None:
    """Raises Unsuitable unless this is Linux and we are root."""
    if platform.system() != "Linux":
        raise Unsuitable("the lab needs Linux: its nodes are made of kernel namespaces")
    if os.geteuid() != 0:
        raise Unsuitable("the lab needs root, to make namespaces, mounts and cgroups; run it again with sudo")


def install_missing_packages() -> None:
    """Installs what is missing, so that a fresh Debian machine works by itself."""
    missing = {package for command, package in PACKAGES.items() if shutil.which(command) is None}
    if _find_network_plugins() is None:
        missing.add("containernetworking-plugins")
    if not missing:
        return
    wanted = sorted(missing)
    if shutil.which("apt-get") is None:
        raise Unsuitable(f"the lab needs these programs, install them first (Debian's names): {', '.join(wanted)}")
    with step(f"installing {', '.join(wanted)}", announce=True):
        command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *wanted]
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            subprocess.run(["apt-get", "update", "--quiet"], env=environment, capture_output=True, check=False)
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unsuitable(f"could not install {', '.join(wanted)}: {done.stderr.strip()[-1000:]}")


def network_plugins() -> Path:
    """The folder of the CNI plugins."""
    if (directory := _find_network_plugins()) is None:
        raise Unsuitable(
            "no CNI plugins; install Debian's package containernetworking-plugins or put them in /opt/cni/bin"
        )
    return directory


def _find_network_plugins() -> Path | None:
    for directory in _NETWORK_PLUGIN_DIRECTORIES:
        if all((directory / plugin).exists() for plugin in _NETWORK_PLUGINS):
            return directory
    return None
