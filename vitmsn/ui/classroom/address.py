"""Where phones find this machine: its addresses in the local network, in words and as QR codes."""

from __future__ import annotations

import io
import ipaddress
import os
import socket
from dataclasses import dataclass

import psutil
import segno
from markupsafe import Markup

from vitmsn.errors import InputError
from vitmsn.ui.locale import later, tr_html

PAGE = "/class"  # what a phone opens: short, because it may be typed
EVERYWHERE = "0.0.0.0"
SETTING = "VITMSN_SHARE_LOCAL"
# interfaces that lead to containers and virtual machines of this machine, not to phones
VIRTUAL = ("docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "utun", "tun", "tap")
NONE_FOUND = later(
    "This machine is in no network now, so no phone can reach it; connect it to the phones' Wi-Fi and open this again."
)


@dataclass(frozen=True)
class Place:
    """One address of this machine: `interface` is the name of its network device, "" where the address was given."""

    url: str
    interface: str = ""

    @property
    def short(self) -> str:
        """The address as one types it."""
        return self.url.removeprefix("http://")

    @property
    def words(self) -> str:
        return f"{self.url} ({self.interface})" if self.interface else self.url


def asked(given: bool) -> bool:
    """Whether class mode was asked for, by the option or by its setting; InputError if that is neither 1 nor 0."""
    named = os.environ.get(SETTING) or "0"
    if named not in ("0", "1"):
        raise InputError(f"{SETTING} is {named[:40]!r}; it must be 1 (class mode) or 0: correct or unset it.")
    return given or named == "1"


def listening(host: str | None) -> str:
    """The address to listen on: `host` if it was given, else GRADIO_SERVER_NAME, else all of this machine's.

    Raises:
        InputError: `host` can be reached from this machine alone.
    """
    if host is not None and loopback(host):
        raise InputError(
            f"--share-local serves the local network, and {host} can be reached from this machine alone; leave out "
            "--host, or give this machine's address in the network."
        )
    named = host or os.environ.get("GRADIO_SERVER_NAME", "")
    return named if named and not loopback(named) else EVERYWHERE


def places(host: str, port: int) -> list[Place]:
    """Where phones find a server that listens on `host`: the way out of this machine first, virtual networks last."""
    if host not in (EVERYWHERE, "::"):
        return [Place(_url(f"[{host}]" if ":" in host else host, port))]
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found = [
        (one.address, name)
        for name, addresses in psutil.net_if_addrs().items()
        for one in addresses
        if name in up and one.family == socket.AF_INET and _reachable(one.address)
    ]
    out = _way_out()
    found.sort(key=lambda one: (one[0] != out, one[1].startswith(VIRTUAL), one[1], one[0]))
    return [Place(_url(address, port), name) for address, name in found]


def picture(place: Place) -> Markup:
    """The address as a QR code, an SVG that grows to the space it gets: black on white, in dark mode too."""
    code = segno.make(place.url, error="m", micro=False)
    drawn = code.svg_inline(omitsize=True, border=4, dark="#000", light="#fff", svgclass=None, lineclass=None)
    return tr_html('<span role="img" aria-label="QR code of {}">{}</span>').format(place.url, Markup(drawn))


def printed(place: Place, encoding: str) -> str:
    """The QR code in characters for a terminal; "" where its encoding has none of them."""
    out = io.StringIO()
    segno.make(place.url, error="l", micro=False).terminal(out, border=2, compact=True)
    try:
        out.getvalue().encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return ""
    return out.getvalue()


def _url(host: str, port: int) -> str:
    return f"http://{host}:{port}{PAGE}"


def loopback(host: str) -> bool:
    """Whether a name or an address can be reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _reachable(address: str) -> bool:
    """Whether other machines can have a way to it: an address that a machine gave itself, for want of one, has none."""
    parsed = ipaddress.ip_address(address)
    return not (parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified)


def _way_out() -> str:
    """This machine's address on its way to others, "" if there is none. A UDP socket sends nothing to connect."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation, which belongs to nobody
            return str(probe.getsockname()[0])
        except OSError:
            return ""
