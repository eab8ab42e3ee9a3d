"""Work ahead of its turn: in order, a few items at a time, and none left behind."""

import threading

import pytest

from wordmask.pictures.prefetch import ahead


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_results_come_in_the_order_of_the_items(threads, count):
    first = threading.Event()

    def squared(item):
        if item == 0 and threads > 1 and count > 1:
            first.wait(10)  # until a later one is done
        else:
            first.set()
        return item * item

    assert list(ahead(squared, range(count), threads=threads)) == [item * item for item in range(count)]


def test_a_reader_who_is_slow_stops_the_work_a_few_items_ahead():
    taken = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    results = ahead(str, items(), threads=3)
    for done in range(20):
        assert next(results) == str(done)
        assert len(taken) == done + 6
    results.close()
    assert len(taken) == 25


def test_an_error_comes_in_its_item_s_place():
    results = ahead(lambda item: 1 // (2 - item), range(9), threads=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
