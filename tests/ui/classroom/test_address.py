"""Where phones find the machine, and what --share-local listens on."""

from __future__ import annotations

import re
import socket
from types import SimpleNamespace

import psutil
import pytest

from vitmsn.errors import InputError
from vitmsn.ui.classroom import address
from vitmsn.ui.classroom.address import Place

PLACE = Place("http://192.168.1.5:7860/class", "wlan0")


@pytest.fixture
def interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with Wi-Fi, a cable, containers, an interface that is down, and addresses that lead nowhere."""
    found = {
        "lo": ["127.0.0.1"],
        "docker0": ["172.17.0.1"],
        "eth0": ["10.0.0.2", "169.254.3.4"],
        "wlan0": ["192.168.1.5"],
        "eth1": ["10.9.9.9"],
    }
    four, six = socket.AF_INET, socket.AF_INET6
    addresses = {
        name: [SimpleNamespace(family=four, address=one) for one in many]
        + [SimpleNamespace(family=six, address="fe80::1%eth0")]
        for name, many in found.items()
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: addresses)
    monkeypatch.setattr(psutil, "net_if_stats", lambda: {name: SimpleNamespace(isup=name != "eth1") for name in found})
    monkeypatch.setattr(address, "_way_out", lambda: "192.168.1.5")


def test_all_addresses_that_others_can_reach_the_way_out_first(interfaces: None) -> None:
    assert address.places("::", 7861) == address.places("0.0.0.0", 7861)
    assert [place.words for place in address.places("0.0.0.0", 7861)] == [
        "http://192.168.1.5:7861/class (wlan0)",
        "http://10.0.0.2:7861/class (eth0)",
        "http://172.17.0.1:7861/class (docker0)",
    ]


def test_an_address_that_was_given_is_the_only_one(interfaces: None) -> None:
    assert address.places("10.0.0.2", 80) == [Place("http://10.0.0.2:80/class")]
    assert address.places("fd00::2", 80)[0].short == "[fd00::2]:80/class"


def test_without_a_network_there_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "net_if_addrs", dict)
    monkeypatch.setattr(psutil, "net_if_stats", dict)
    assert address.places("0.0.0.0", 7860) == []


def test_the_real_interfaces_can_be_read() -> None:
    for place in address.places("0.0.0.0", 7860):
        assert re.fullmatch(r"http://\d+\.\d+\.\d+\.\d+:7860/class", place.url) and place.interface


@pytest.mark.parametrize(("value", "asked"), [("", False), ("0", False), ("1", True)])
def test_the_setting_asks_for_it_too(monkeypatch: pytest.MonkeyPatch, value: str, asked: bool) -> None:
    monkeypatch.setenv("VITMSN_SHARE_LOCAL", value)
    assert address.asked(False) is asked and address.asked(True)


def test_a_setting_that_is_neither_1_nor_0_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITMSN_SHARE_LOCAL", "7860")
    with pytest.raises(InputError, match="VITMSN_SHARE_LOCAL is '7860'; it must be 1"):
        address.asked(True)


@pytest.mark.parametrize(
    ("given", "setting", "host"),
    [
        (None, "", "0.0.0.0"),
        (None, "127.0.0.1", "0.0.0.0"),  # what `make run` sets
        (None, "localhost", "0.0.0.0"),
        (None, "10.0.0.2", "10.0.0.2"),
        ("192.168.1.5", "10.0.0.2", "192.168.1.5"),
        ("0.0.0.0", "", "0.0.0.0"),
    ],
)
def test_what_is_listened_on(monkeypatch: pytest.MonkeyPatch, given: str | None, setting: str, host: str) -> None:
    monkeypatch.setenv("GRADIO_SERVER_NAME", setting)
    assert address.listening(given) == host


@pytest.mark.parametrize("given", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.8.8"])
def test_an_address_for_this_machine_alone_is_refused(given: str) -> None:
    with pytest.raises(InputError, match=f"{re.escape(given)} can be reached from this machine alone"):
        address.listening(given)


def test_the_code_is_drawn_as_svg_and_in_characters() -> None:
    drawn = address.picture(PLACE)
    assert 'aria-label="QR code of http://192.168.1.5:7860/class"' in drawn and drawn.count("<svg") == 1
    printed = address.printed(PLACE, "utf-8")
    lines = printed.splitlines()
    assert len(lines) > 12 and len({len(line) for line in lines}) == 1 and set(printed) <= set(" \n█▀▄")
    assert address.printed(PLACE, "ascii") == "" == address.printed(PLACE, "no-such-encoding")
