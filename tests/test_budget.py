"""What requests hold: bounded for all and for each client, waited for by turns."""

import time

import pytest

from wordmask.serving.budget import Budget
from wordmask.serving.settings import RequestError, ServeSettings


def full(size=1, **options):
    """A budget, and who has all of it."""
    budget = Budget(total=size, most_of_one=size, **options)
    held = budget.claim("a")
    assert held.take(size)
    return budget, held


def test_a_client_gets_its_share_and_others_the_rest():
    budget = Budget(total=10, most_of_one=6)
    greedy, other = budget.claim("a"), budget.claim("b")
    assert [greedy.take(6), budget.claim("a").take(1), other.take(4), other.take(1)] == [True, False, True, False]
    greedy.close()
    assert other.take(1)
    assert budget.held == 5


def test_who_waits_gets_room_by_turns():
    budget, holder = full()
    claims = [budget.claim(client) for client in ("a", "a", "a", "b")]
    waits, order = [claim.wait_for(1) for claim in claims], []
    for _ in claims:
        holder.close()
        (now,) = [i for i, wait in enumerate(waits) if wait.done() and i not in order]
        order.append(now)
        holder = claims[now]
    assert order == [0, 3, 1, 2]


def test_who_gives_up_waiting_keeps_nobody_waiting_and_does_not_count_as_waiting():
    budget, held = full()
    gone, next_one = (budget.claim("b").wait_for(1) for _ in range(2))
    assert gone.cancel()
    assert budget.waiting_of("b") == 1
    held.close()
    assert next_one.done()


def test_small_ones_overtake_a_large_one_but_not_for_ever(monkeypatch):
    budget = Budget(total=10, most_of_one=10)
    assert budget.claim("a").take(5)
    large = budget.claim("b").wait_for(10)
    assert budget.claim("c").wait_for(1).done()
    monkeypatch.setattr("wordmask.serving.budget.PATIENCE", 0.01)
    time.sleep(0.02)
    assert not budget.claim("d").wait_for(1).done()
    assert not large.done()


def test_nobody_waits_for_what_is_closed():
    budget, _ = full()
    waiting = budget.claim("a").wait_for(1)
    budget.close(RequestError(503, "stopping", "the service is being stopped"))
    with pytest.raises(RequestError, match="stopped"):
        waiting.result(1)
    with pytest.raises(RequestError, match="stopped"):
        budget.claim("c").wait_for(1)


def test_the_largest_picture_and_body_fit_into_any_limits():
    settings = ServeSettings(max_pixels=100_000_000, picture_bytes=1, max_bytes=1000, body_bytes=1)
    assert settings.most_picture_bytes >= settings.most_picture_bytes_of_one >= 3 * settings.max_pixels
    assert settings.most_body_bytes_of_one == settings.most_body_bytes == 1000


@pytest.mark.parametrize("client", ["b", "c"])
def test_what_costs_little_goes_before_what_costs_much_of_the_same_client_and_of_others(client):
    budget, held = full(10)
    costs_much, costs_little = (
        budget.claim(own).wait_for(9, handicap=seconds) for own, seconds in (("b", 20), (client, 10))
    )
    held.close()
    assert (costs_little.done(), costs_much.done()) == (True, False)


def test_what_costs_much_is_not_overtaken_for_ever():
    budget, held = full()
    costs_much = budget.claim("b").wait_for(1, handicap=0.05)
    time.sleep(0.1)
    late = budget.claim("c").wait_for(1)
    held.close()
    assert (costs_much.done(), late.done()) == (True, False)


def test_what_is_taken_for_a_request_that_is_over_is_not_held():
    budget = Budget(total=10, most_of_one=10)
    with budget.claim("a") as claim:
        assert claim.take(3)
    assert not claim.take(3)  # by a decoder, whose picture nobody waits for any longer
    claim.keep(3)
    assert budget.held == 0


def test_a_decoder_has_memory_for_the_largest_picture():
    assert ServeSettings().most_decode_bytes == ServeSettings().decode_bytes
    assert ServeSettings(max_pixels=100_000_000).most_decode_bytes > 19 * 100_000_000
