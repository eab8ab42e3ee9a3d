"""The REST service under load: valid and hostile requests from several clients, and what batching gains.

python benchmarks/rest_load.py [--seconds 60] [--clients 4] [--preset world]

Starts `wordmask serve` on this machine, sends a mixture of good and bad requests, and prints how they were answered,
the service's memory at the start and at the end, and pictures per second with batches against one by one.
"""

import argparse
import io
import json
import os
import random
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter

import httpx
import numpy as np
from PIL import Image

from wordmask.html_page import text_table
from wordmask_world import draw_scene

NAMES = ["dog", "cat", "car", "tree", "grass", "sky", "water", "background"]
TURNS = 5
MOST_BYTES = 20
"""MiB that the service takes in one request."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--preset", default="world")
    parser.add_argument("--method", default="maskclip")
    arguments = parser.parse_args()
    pictures = [png(draw_scene(seed, 128).image) for seed in range(16)]

    serve = ["--method", arguments.method, "--preset", arguments.preset, "--max-mb", str(MOST_BYTES)]
    with Service([*serve, "--batch-size", "8"]) as service:
        before = service.memory()
        answers = storm(service, pictures, arguments.clients, arguments.seconds)
        half, after = answers.pop("half"), service.memory()
        rows = [[kind, *sorted(Counter(codes).items())] for kind, codes in answers["codes"].items()]
        for kind, *codes in rows:
            print(f"{kind:18}", ", ".join(f"{code}: {count}" for code, count in codes))
        bad = {code for codes in answers["codes"].values() for code in codes if code >= 500 and code != 503}
        print(f"5xx other than 503: {sorted(bad) or 'none'}; the service {'lives' if service.alive() else 'DIED'}")
        memory = [[f"{megabytes / 2**20:.0f}" for megabytes in (before, half, after)]]
        print(text_table(["memory in MiB: start", "half-way", "end"], memory))
        with Service([*serve, "--batch-size", "1"]) as other:
            # By turns, so that a machine with other work is fair to both.
            rates = [
                [throughput(own, pictures, arguments.clients, arguments.seconds / 12) for own in (service, other)]
                for _ in range(TURNS)
            ]
    together, alone = (statistics.median(own) for own in zip(*rates, strict=True))
    print(f"pictures a second, {arguments.clients} clients: {together:.1f} in batches, {alone:.1f} one by one")
    print(f"ratio {together / alone:.2f}")


class Service:
    """`wordmask serve` as a process of its own."""

    def __init__(self, options: list[str]):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        code = "from wordmask.cli import main; main()"
        command = [sys.executable, "-c", code, "serve", "--no-page", "--precision", "fp32"]
        command += ["--port", str(self.port), *options]
        self.process = subprocess.Popen(command, env={**os.environ, "WORDMASK_OFFLINE": "1"})
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Service":
        for _ in range(600):
            try:
                httpx.get(f"{self.url}/healthz", timeout=5)
                return self
            except httpx.HTTPError:
                if self.process.poll() is not None:
                    raise SystemExit("the service did not start") from None
                time.sleep(0.5)
        raise SystemExit("the service did not start in time")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def alive(self) -> bool:
        return self.process.poll() is None and httpx.get(f"{self.url}/healthz", timeout=60).status_code == 200

    def memory(self) -> float:
        lines = httpx.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("wordmask_resident_bytes"))


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of a few kilobytes that claims side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(5_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def valid(client: httpx.Client, pictures: list[bytes], dice: random.Random) -> httpx.Response:
    names = dice.sample(NAMES, dice.randint(2, len(NAMES)))
    files = {"image": ("a.png", dice.choice(pictures))}
    return client.post("/v1/segment", files=files, data={"names": names, "format": dice.choice(["rle", "png"])})


def truncated(client: httpx.Client, pictures: list[bytes], dice: random.Random) -> httpx.Response:
    picture = dice.choice(pictures)
    return client.post(
        "/v1/segment", files={"image": picture[: dice.randrange(len(picture) - 20)]}, data={"names": "a,b"}
    )


def bombed(client: httpx.Client, pictures: list[bytes], dice: random.Random) -> httpx.Response:
    return client.post("/v1/segment", files={"image": bomb(dice.choice([4_000, 60_000]))}, data={"names": "a,b"})


def long_names(client: httpx.Client, pictures: list[bytes], dice: random.Random) -> httpx.Response:
    content = json.dumps({"image": "", "names": ["n" * 100] * 100_000}).encode()  # 10 MB
    return client.post("/v1/segment", content=content, headers={"Content-Type": "application/json"})


def wrong_types(client: httpx.Client, pictures: list[bytes], dice: random.Random) -> httpx.Response:
    bodies = [
        b"[1]",
        b'{"image": 1, "names": 2}',
        b'{"names": {}}',
        b"\x80\x04\x95",
        b'{"image": "..", "names": [null]}',
    ]
    return client.post("/v1/segment", content=dice.choice(bodies), headers={"Content-Type": "application/json"})


def too_large(client: httpx.Client, pictures: list[bytes], dice: random.Random) -> httpx.Response:
    return client.post("/v1/segment", files={"image": bytes((MOST_BYTES + 5) * 2**20)}, data={"names": "a,b"})


KINDS = {
    valid: 30,
    truncated: 5,
    bombed: 3,
    long_names: 2,
    wrong_types: 5,
    too_large: 1,
}
"""Requests and their shares."""


def storm(service: Service, pictures: list[bytes], clients: int, seconds: float) -> dict:
    codes: dict[str, list[int]] = {kind.__name__: [] for kind in KINDS}
    end = time.monotonic() + seconds
    half: list[float] = []

    def run(number: int) -> None:
        dice = random.Random(number)
        with httpx.Client(base_url=service.url, timeout=120) as client:
            while time.monotonic() < end:
                kind = dice.choices(list(KINDS), list(KINDS.values()))[0]
                codes[kind.__name__].append(kind(client, pictures, dice).status_code)
                if not half and time.monotonic() > end - seconds / 2:
                    half.append(service.memory())

    slow = threading.Thread(target=dribble, args=(service, end), daemon=True)
    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in (*threads, slow):
        thread.start()
    for thread in threads:
        thread.join()
    return {"codes": codes, "half": half[0] if half else float("nan")}


def dribble(service: Service, end: float) -> None:
    """A sender of one byte a second, who never finishes."""
    with socket.create_connection(("127.0.0.1", service.port)) as line:
        head = "POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
        line.sendall(head.encode())
        try:
            while time.monotonic() < end:
                line.sendall(b" ")
                time.sleep(1)
        except OSError:
            return  # sent away, as it should be


def throughput(service: Service, pictures: list[bytes], clients: int, seconds: float) -> float:
    """Answered pictures a second, each client sending the next one when it has its answer."""
    done = [0] * clients
    start = time.monotonic()

    def run(number: int) -> None:
        with httpx.Client(base_url=service.url, timeout=120) as client:
            for picture in pictures[:2]:
                client.post("/v1/segment", files={"image": picture}, data={"names": ",".join(NAMES)})
            while time.monotonic() < start + seconds:
                picture = pictures[done[number] % len(pictures)]
                answer = client.post("/v1/segment", files={"image": picture}, data={"names": ",".join(NAMES)})
                done[number] += answer.status_code == 200

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.monotonic() - start)


if __name__ == "__main__":
    main()
