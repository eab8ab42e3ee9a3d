"""What a launcher tells each of several processes."""

import socket


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launched(count):
    """What a launcher says to each of its processes, in their environments."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    return [{**meeting, "RANK": str(place), "LOCAL_RANK": str(place)} for place in range(count)]
