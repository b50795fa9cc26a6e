"""The one room: who is in it, the challenge they play, and the board. In memory alone; closing it forgets everything.

No Gradio and no HTML here. What a phone says of its result is not believed: `judge` asks the model itself.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from vitmsn import limits, names
from vitmsn.errors import GalleryError, InputError
from vitmsn.ui.classroom.challenge import Challenge, Said
from vitmsn.ui.locale import later, tr

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # none that look alike
LETTERS_IN_CODE = 8  # 32 to the 8th: more than any class can try
NOT_RUNNING = later("No round is running; wait until the teacher starts one.")
ANOTHER_ROUND = later("Another round has begun; this was about the one before.")
NOT_HERE = later("This page is not in the class any more; open Class again.")


@dataclass(frozen=True)
class Best:
    """A phone's best: squares kept with the same answer still first, those that it dropped, and when."""

    kept: int
    dropped: frozenset[int]
    at: float


@dataclass(eq=False)
class Seat:
    """One page in the class. `secret` is known to that page alone; `present` says whether its visit is still there."""

    number: int
    teacher: bool
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)
    name: str = ""
    best: Best | None = None
    seen: float = 0.0
    moves: deque[float] = field(default_factory=deque, repr=False)
    present: Callable[[], bool] = field(default=lambda: True, repr=False)

    @property
    def title(self) -> str:
        """The nickname, or "Phone 7"; plain text from outside, not escaped."""
        return self.name or tr("Phone {number}", number=self.number)


@dataclass(frozen=True)
class BoardRow:
    """A line of the board."""

    number: int
    title: str
    kept: int
    dropped: frozenset[int]


@dataclass(frozen=True)
class Judged:
    """The model's answer to a phone's choice; `better`: it became the phone's best."""

    challenge: Challenge
    said: Said
    kept: int
    same: bool
    better: bool


class Room:
    """The class. All methods may be called from any thread.

    Attributes:
        code: what makes a page the teacher's, for whoever reads this machine's terminal.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        drawn = "".join(secrets.choice(LETTERS) for _ in range(LETTERS_IN_CODE))
        self.code = f"{drawn[:4]}-{drawn[4:]}"
        self._clock = clock
        self._lock = threading.RLock()
        self._seats: dict[str, Seat] = {}
        self._challenge: Challenge | None = None
        self._phones = 0  # that ever came, for their numbers
        self._rounds = 0
        self._version = 0  # of the board; never starts again, so a page notices every change

    # --- seats -------------------------------------------------------------------------------------------------------

    def is_code(self, text: str) -> bool:
        """Whether this is the teacher's code; small letters and other separators are fine."""
        typed = "".join(letter for letter in text.upper()[:40] if letter in LETTERS)
        return hmac.compare_digest(typed, self.code.replace("-", ""))

    def enter(self, teacher: bool, before: Seat | None = None, present: Callable[[], bool] = lambda: True) -> Seat:
        """A seat for a page; the one it had `before`, unless its role has changed.

        Raises:
            InputError: the class is full.
        """
        with self._lock:
            now = self._clock()
            self.sweep()
            if before is not None and before.secret in self._seats:
                if before.teacher == teacher:
                    before.seen = now
                    return before
                self._remove(before)
            alike = [seat for seat in self._seats.values() if seat.teacher == teacher]
            if len(alike) >= (limits.CLASS_TEACHERS if teacher else limits.CLASS_PHONES):
                self._make_place(alike, teacher, now)
            self._phones += not teacher
            seat = Seat(0 if teacher else self._phones, teacher, seen=now, present=present)
            self._seats[seat.secret] = seat
            return seat

    def _make_place(self, alike: list[Seat], teacher: bool, now: float) -> None:
        oldest = min(alike, key=lambda seat: seat.seen)
        if not teacher and now - oldest.seen <= limits.CLASS_AWAY_SECONDS:
            raise InputError(
                tr("{many} phones are in this class and no more can join; look on with a neighbor.", many=len(alike))
            )
        self._remove(oldest)

    def find(self, secret: str) -> Seat | None:
        """The seat of a page that asks, which thereby counts as connected; None when it is not in the class."""
        with self._lock:
            self.sweep()
            seat = self._seats.get(secret)
            if seat is not None:
                seat.seen = self._clock()
            return seat

    def connected(self) -> int:
        """Phones that asked within `limits.CLASS_CONNECTED_SECONDS`."""
        with self._lock:
            since = self._clock() - limits.CLASS_CONNECTED_SECONDS
            return sum(not seat.teacher and seat.seen >= since for seat in self._seats.values())

    def rename(self, seat: Seat, text: object) -> str:
        """Give a phone its nickname; nothing that can be seen means none. Returns its title."""
        with self._lock:
            self._check(seat)
            try:
                seat.name = names.clean_name(str(text)[: limits.MAX_TEXT_LENGTH], limits.CLASS_NAME_LENGTH)
            except GalleryError:
                seat.name = ""
            self._version += 1
            return seat.title

    def take_name(self, number: object) -> None:
        """Take the nickname of phone `number` away: the teacher decides what the projector shows."""
        with self._lock:
            for seat in self._seats.values():
                if seat.number == number and not seat.teacher:
                    seat.name = ""
            self._version += 1

    def sweep(self) -> None:
        """Forget pages whose visit was deleted, and everything once all are gone. Called by a timer, too."""
        with self._lock:
            for seat in [seat for seat in self._seats.values() if not seat.present()]:
                self._remove(seat)
            if not self._seats and self._challenge is not None:
                self.close()

    def _remove(self, seat: Seat) -> None:
        del self._seats[seat.secret]
        self._version += 1

    def _check(self, seat: Seat) -> None:
        if seat.secret not in self._seats:
            raise InputError(tr(NOT_HERE))

    # --- rounds ------------------------------------------------------------------------------------------------------

    @property
    def challenge(self) -> Challenge | None:
        return self._challenge

    @property
    def version(self) -> int:
        """Another one after every change of the board."""
        return self._version

    def begin(self, challenge: Challenge) -> Challenge:
        """Start a round, with an empty board; phones and nicknames stay."""
        with self._lock:
            self._rounds += 1
            self._version += 1
            self._challenge = replace(challenge, number=self._rounds)
            for seat in self._seats.values():
                seat.best = None
            return self._challenge

    def close(self) -> None:
        """Forget everything: phones, nicknames, results and the picture."""
        with self._lock:
            self._seats.clear()
            self._challenge = None
            self._phones = 0
            self._version += 1

    def judge(self, seat: Seat, number: object, dropped: object) -> Judged:
        """Ask the model what it says without the squares `dropped`, and keep the result if it is the phone's best.

        Args:
            number: of the round that the phone plays.

        Raises:
            InputError: no such round, squares that do not exist, or more than `limits.CLASS_MOVES` in a minute.
        """
        with self._lock:
            challenge = self._playing(seat, number)
            self._count(seat)
        places = challenge.checked(dropped)
        said = challenge.ask(places)
        kept, same = challenge.count - len(places), challenge.same(said)
        with self._lock:
            self._playing(seat, number)
            better = same and bool(places) and (seat.best is None or kept < seat.best.kept)
            if better:
                seat.best = Best(kept, places, self._clock())
                self._version += 1
        return Judged(challenge, said, kept, same, better)

    def _playing(self, seat: Seat, number: object) -> Challenge:
        self._check(seat)
        if seat.teacher:
            raise InputError(tr("The projector shows the board; play on a phone, or in another window."))
        if self._challenge is None:
            raise InputError(tr(NOT_RUNNING))
        if number != self._challenge.number:
            raise InputError(tr(ANOTHER_ROUND))
        return self._challenge

    def _count(self, seat: Seat) -> None:
        now = self._clock()
        while seat.moves and now - seat.moves[0] > 60:
            seat.moves.popleft()
        if len(seat.moves) >= limits.CLASS_MOVES:
            raise InputError(tr("{most} changes in a minute are the most; wait a few seconds.", most=len(seat.moves)))
        seat.moves.append(now)

    def board(self) -> list[BoardRow]:
        """The best of each phone: fewest squares first, then who had it first."""
        with self._lock:
            played = [(seat, seat.best) for seat in self._seats.values() if seat.best is not None]
            played.sort(key=lambda one: (one[1].kept, one[1].at))
            return [BoardRow(seat.number, seat.title, best.kept, best.dropped) for seat, best in played]
