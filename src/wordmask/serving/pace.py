"""How fast a client must send or read to be waited for."""


class Pace:
    """Each byte earns time, up to `stall` seconds of it; `due` is when it is used up.

    So neither a standstill of `stall` seconds is waited for nor, in the long run, less than `rate` bytes a second.
    """

    def __init__(self, rate: float, stall: float, now: float):
        self._rate, self._stall = rate, stall
        self.due = now + stall

    def moved(self, nbytes: int, now: float) -> float:
        self.due = min(now + self._stall, self.due + nbytes / self._rate)
        return self.due
