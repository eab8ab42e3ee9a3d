"""The service attacked for minutes with every kind of hostile request in `attacks.py`, beside valid ones.

python benchmarks/attack_service.py [--minutes 5] [--method maskclip] [--preset world] [--kind "slow bodies" ...]

Starts `wordmask serve`, page and all, on a free port of this machine and sends requests to that port alone. First valid
clients are by themselves: their times and the service's memory are what the rest is compared with. Then the attack
begins, from several addresses of this machine, the valid clients' own among them. At the end, still under attack, the
service is told to stop with requests in its hands. Prints how each kind was answered, and ends with 1 if a bound is not
kept:

- memory, of the service and its decoders, at most 1.5 times its peak with valid clients alone;
- the 99th percentile of valid requests' times at most 3 times that without the attack;
- no answer of 500 and above but 503, to anybody, and no traceback in the service's log;
- at least 9 of 10 valid requests served, the others told to come back (503);
- stopped by SIGTERM: what had arrived answered, within 10 seconds, exit status 0.

A valid client keeps its connection, as most do. Where the service closes it before any byte of an answer, the request
is sent once more on a new one, as every HTTP client does; its time is that of both.

The attackers share this machine's processors with the service, at the lowest priority, as on a network they would have
their own; how many requests a second they got through is printed, as a faster service lets more of them in. Other work
beside it spoils the times: rather few processors, and nothing else on them.
"""

import argparse
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from attacks import FORM, HOLDERS, JSON, KINDS, NO_ANSWER, SEGMENT, Target, form
from PIL import Image

from wordmask.html_page import text_table
from wordmask_world import draw_scene

OWN = "127.0.0.1"
"""The address of the valid clients."""
ADDRESSES = (OWN, *(f"127.0.0.{last}" for last in range(2, 9)))
WORKERS, HOLDING = 6, 3
"""Attackers at once: those that ask one thing after the other, and those that hold what they have."""
WARM_UP, LONGER = 5.0, 5.0
"""Seconds of valid clients that are not counted, and that the attack goes on for when they have ended."""
MOST_MEMORY, MOST_TIME, LEAST_SERVED, LONGEST_STOP = 1.5, 3.0, 0.9, 10.0
PARTS = ("its event loop", "its other threads", "its decoders")
NAMES = ["dog", "cat", "car", "tree", "grass", "sky", "water", "background"]
PHOTOGRAPH = (4000, 3000)
LAST_REQUESTS = 16
"""That are in the service's hands when it is told to stop."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--method", default="maskclip")
    parser.add_argument("--preset", default="world")
    parser.add_argument("--kind", action="append", help="Only this kind of attack; may be repeated.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--attack", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    seconds = 60 * arguments.minutes
    if arguments.attack:
        print(json.dumps(attack(arguments.attack, seconds, arguments.kind, arguments.seed)))
        return
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if run(arguments, seconds, Path(folder) / "log") else 1)


def run(arguments: argparse.Namespace, seconds: float, log: Path) -> bool:
    service = Service(["--method", arguments.method, "--preset", arguments.preset], log)
    try:
        Clients(service).work(WARM_UP)
        memory = Memory(service.process.pid)
        alone = Clients(service).work(max(20.0, seconds / 5))
        memory_alone = memory.peak()
        print(f"alone: {alone.line()}", flush=True)
        kinds = [part for own in arguments.kind or () for part in ("--kind", own)]
        attackers = subprocess.Popen(
            [
                sys.executable,
                __file__,
                "--attack",
                str(service.port),
                "--minutes",
                str((seconds + LONGER) / 60),
                "--seed",
                str(arguments.seed),
                *kinds,
            ],
            stdout=subprocess.PIPE,
        )
        before = spent(memory.process)
        attacked = Clients(service).work(seconds)
        shares = [(now - then) / seconds for now, then in zip(spent(memory.process), before, strict=True)]
        memory_attacked = memory.peak()
        print(f"attacked: {attacked.line()}", flush=True)
        told = ask(service, "GET", "/metrics").content.decode()
        print("\n".join(line for line in told.splitlines() if "ended" in line or "answers_total" in line), flush=True)
        stopped = stop_under_load(service)
        answers = json.loads(attackers.communicate(timeout=120)[0])
    finally:
        service.process.kill()
    print(table_of_kinds(answers))
    rate = sum(sum(codes.values()) for codes in answers.values()) / (seconds + LONGER)
    taken = ", ".join(f"{share:.2f} by {who}" for share, who in zip(shares, PARTS, strict=True))
    print(f"hostile requests: {rate:.1f} a second; processors taken by the service: {taken}")
    said = log.read_text(errors="replace")
    wrong = Counter(
        code for codes in (*answers.values(), attacked.codes, alone.codes) for code in codes if is_failure(code)
    )
    rows = [
        row("memory, times that alone", memory_attacked / memory_alone, MOST_MEMORY),
        *(
            row(
                f"99th percentile of {own}, times that alone",
                attacked.percentile(own, 99) / alone.percentile(own, 99),
                MOST_TIME,
            )
            for own in alone.times
        ),
        row("answers of 500 and above but 503", sum(wrong.values()), 0),
        row("tracebacks in the log", said.count("Traceback (most recent call last)"), 0),
        row("share of valid requests that were not served", 1 - attacked.served, 1 - LEAST_SERVED),
        row("valid requests that got no answer", attacked.codes[0], 0),
        row("stopping: requests without an answer", stopped.unanswered, 0),
        row("stopping: seconds", stopped.seconds, LONGEST_STOP),
        row("stopping: exit status", stopped.status, 0),
    ]
    print(text_table(["what", "measured", "at most", "kept"], [list(own) for own in rows]))
    if any(own[3] == "NO" for own in rows):
        print("what the service said last:\n" + said[-3000:])
    return all(own[3] == "yes" for own in rows)


def row(what: str, measured: float, most: float) -> tuple[str, str, str, str]:
    return what, f"{measured:.3g}", f"{most:.3g}", "yes" if measured <= most else "NO"


def is_failure(code: int | str) -> bool:
    return int(code) >= 500 and int(code) != 503


def table_of_kinds(answers: dict[str, dict[str, int]]) -> str:
    rows = []
    for own, codes in answers.items():
        told = ", ".join(f"{code if code != '0' else 'none'}: {count}" for code, count in sorted(codes.items()))
        rows.append([own, str(sum(codes.values())), told])
    return text_table([f"kind ({len(rows)})", "answers", "of status"], rows)


class Service:
    """`wordmask serve` as a process of its own, its log in a file."""

    def __init__(self, options: list[str], log: Path):
        command = [sys.executable, "-c", "from wordmask.cli import main; main()", "serve", "--port", "0", *options]
        self._log = log.open("wb")
        environment = {**os.environ, "WORDMASK_OFFLINE": "1"}
        self.process = subprocess.Popen(command, stderr=self._log, env=environment)
        self.port = 0
        deadline = time.monotonic() + 300
        while not self.port:
            found = re.search(r"at http://127\.0\.0\.1:(\d+)", log.read_text(errors="replace"))
            self.port = int(found[1]) if found else 0
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the service did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.1)
        while ask(self, "GET", "/healthz").code != 200:
            time.sleep(0.1)


def spent(process: psutil.Process) -> tuple[float, float, float]:
    """Return the seconds of a processor that the event loop's thread, the others and the decoders have had."""
    loop = next(own.user_time + own.system_time for own in process.threads() if own.id == process.pid)
    own = process.cpu_times()
    decoders = own.children_user + own.children_system
    for child in process.children(recursive=True):
        with suppress(psutil.Error):
            decoders += sum(child.cpu_times()[:2])
    return loop, own.user + own.system - loop, decoders


class Memory:
    """What a process and those that it has started take, looked at several times a second."""

    def __init__(self, pid: int):
        self.process = psutil.Process(pid)
        self._most = self._beside = 0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            beside = 0
            with suppress(psutil.Error):
                for process in self.process.children(recursive=True):
                    with suppress(psutil.Error):
                        beside += process.memory_info().rss
                self._most, self._beside = max(
                    (self._most, self._beside), (self.process.memory_info().rss + beside, beside)
                )
            time.sleep(0.1)

    def peak(self) -> int:
        """Since the last time this was asked."""
        (most, beside), (self._most, self._beside) = (self._most, self._beside), (0, 0)
        print(f"memory at most {most / 2**20:.0f} MiB, {beside / 2**20:.0f} of it in decoders")
        return most


@dataclass
class Answer:
    code: int
    content: bytes = b""
    seconds: float = 0.0
    sent_at: float = 0.0


def ask(
    service: Service,
    verb: str,
    path: str,
    body: bytes = b"",
    kind: str = "",
    line: http.client.HTTPConnection | None = None,
) -> Answer:
    """code 0: no answer. line: a connection that is kept; one that was closed before an answer began is opened anew."""
    own = line or http.client.HTTPConnection("127.0.0.1", service.port, timeout=90, source_address=(OWN, 0))
    headers = {"Content-Type": kind} if kind else {}
    was_kept = own.sock is not None
    start = time.monotonic()
    sent_at = float("inf")
    try:
        try:
            own.request(verb, path, body or None, headers)
        except ConnectionError:
            if not (was_kept and is_closed(own)):
                raise
        if was_kept and is_closed(own):
            own.close()
            own.request(verb, path, body or None, headers)
        sent_at = time.monotonic()
        response = own.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException):
        own.close()
        return Answer(0, sent_at=sent_at)
    finally:
        if line is None:
            own.close()
    return Answer(response.status, content, time.monotonic() - start, sent_at)


def is_closed(line: http.client.HTTPConnection) -> bool:
    """Wait for the first byte of an answer, and say whether the connection ended instead."""
    try:
        return not line.sock.recv(1, socket.MSG_PEEK)
    except ConnectionError:
        return True


@dataclass
class Clients:
    """Valid ones: who sends pictures, who sends large photographs now and then, and a visitor of the page."""

    service: Service
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    codes: Counter[int] = field(default_factory=Counter)

    def work(self, seconds: float) -> "Clients":
        end = time.monotonic() + seconds
        dice = random.Random(0)
        clients: list[tuple[Callable[[http.client.HTTPConnection, random.Random], None], float]] = [
            *[(self._picture, 0.1)] * 3,
            (self._photograph, 2.0),
            (self._page, 0.5),
        ]
        threads = [
            threading.Thread(target=self._repeat, args=(work, pause, end, random.Random(dice.random())))
            for work, pause in clients
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self

    def _repeat(
        self,
        work: Callable[[http.client.HTTPConnection, random.Random], None],
        pause: float,
        end: float,
        dice: random.Random,
    ) -> None:
        line = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=90, source_address=(OWN, 0))
        while time.monotonic() < end:
            work(line, dice)
            time.sleep(dice.uniform(0.5, 1.5) * pause)
        line.close()

    def _note(self, who: str, *answers: Answer) -> None:
        """Its time, if all of it was answered."""
        self.codes.update(answer.code for answer in answers)
        if all(answer.code == 200 for answer in answers):
            self.times[who].append(sum(answer.seconds for answer in answers))

    def _picture(self, line: http.client.HTTPConnection, dice: random.Random) -> None:
        body = form(dice.choice(PICTURES), ", ".join(dice.sample(NAMES, 4)), format=dice.choice(["rle", "png"]))
        self._note("pictures", ask(self.service, "POST", SEGMENT, body, FORM, line))

    def _photograph(self, line: http.client.HTTPConnection, dice: random.Random) -> None:
        body = form(PHOTOGRAPHS[0], ", ".join(NAMES[:4]))
        self._note("photographs", ask(self.service, "POST", SEGMENT, body, FORM, line))

    def _page(self, line: http.client.HTTPConnection, dice: random.Random) -> None:
        body = form(dice.choice(PICTURES), field="files").split(b"\r\n--", 1)[1]
        sent = ask(self.service, "POST", "/gradio_api/upload", b"--" + body, FORM, line)
        if sent.code != 200:
            self._note("page", sent)
            return
        token = json.loads(sent.content)[0].partition("/")[0]
        question = {"picture": token, "names": dice.sample(NAMES, 4), "method": "maskclip"}
        asked = ask(self.service, "POST", "/page/ask", json.dumps(question).encode(), JSON, line)
        self._note("page", sent, asked)

    def percentile(self, who: str, percent: float) -> float:
        return float(np.percentile(self.times[who], percent)) if self.times[who] else float("inf")

    @property
    def served(self) -> float:
        return self.codes[200] / max(1, self.codes.total())

    def line(self) -> str:
        times = (
            f"{who} {len(own)}, "
            + ", ".join(f"{percent} % within {self.percentile(who, percent):.3f} s" for percent in (50, 90, 95, 99))
            for who, own in sorted(self.times.items())
        )
        codes = ", ".join(f"{code or 'no answer'}: {count}" for code, count in sorted(self.codes.items()))
        return f"{'; '.join(times)}; {codes}"


def scene(seed: int, side: int, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw_scene(seed, side).image).save(buffer, kind)
    return buffer.getvalue()


def photograph() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw_scene(3, 512).image).resize(PHOTOGRAPH).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


PICTURES = [scene(seed, (128, 256, 384, 640)[seed % 4], ("PNG", "JPEG")[seed % 2]) for seed in range(12)]
PHOTOGRAPHS = [photograph()]


@dataclass
class Stopped:
    unanswered: int
    seconds: float
    status: int


def stop_under_load(service: Service) -> Stopped:
    answers: list[Answer] = []
    body = form(PICTURES[0], ", ".join(NAMES))
    threads = [
        threading.Thread(target=lambda: answers.append(ask(service, "POST", SEGMENT, body, FORM)))
        for _ in range(LAST_REQUESTS)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    told = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    try:
        status = service.process.wait(60)
    except subprocess.TimeoutExpired:
        status = -1
    seconds = time.monotonic() - told
    for thread in threads:
        thread.join()
    unanswered = sum(answer.code == 0 and answer.sent_at < told for answer in answers)
    codes = Counter(answer.code for answer in answers)
    print(f"stopping: {dict(codes)} to {LAST_REQUESTS} valid requests that had just been sent (0: none)", flush=True)
    return Stopped(unanswered, seconds, status)


def attack(port: int, seconds: float, only: list[str] | None, seed: int) -> dict[str, Counter[int]]:
    """Every kind in turn, in an order of its own for each worker: how each was answered."""
    if hasattr(os, "nice"):
        os.nice(19)
    end = time.monotonic() + seconds
    answers: dict[str, Counter[int]] = {own: Counter() for own in (*KINDS, *HOLDERS) if not only or own in only}
    lock = threading.Lock()

    def work(number: int, kinds: dict[str, Callable[[Target], list[int]]]) -> None:
        dice = random.Random(1000 * seed + number)
        names = [own for own in kinds if own in answers]
        while names and time.monotonic() < end:
            dice.shuffle(names)
            for own in names:
                if time.monotonic() > end:
                    return
                target = Target(port, dice.choice(ADDRESSES), dice, lambda: time.monotonic() > end)
                try:
                    found = kinds[own](target)
                except OSError:  # the service had sent it away
                    found = NO_ANSWER
                with lock:
                    answers[own].update(found)

    threads = [threading.Thread(target=work, args=(number, KINDS)) for number in range(WORKERS)]
    threads += [threading.Thread(target=work, args=(WORKERS + number, HOLDERS)) for number in range(HOLDING)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


if __name__ == "__main__":
    main()
