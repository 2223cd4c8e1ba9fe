# SPDX-License-Identifier: Apache-2.0
"""Who waits learns of a change at once, whoever made it."""

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import update

from statera.store.engine import Store
from statera.store.tables import load_balancers
from statera.store.wake import Waker, announce


def wish(store):
    """Commit a change; returns when that was."""
    with store.write() as connection:
        connection.execute(update(load_balancers).values(version=load_balancers.c.version + 1))
        announce(connection)
    return time.monotonic()


def test_a_wake_up_comes_within_milliseconds(store, load_balancer):
    load_balancer()
    elsewhere = Store(store.engine.url.render_as_string(hide_password=False))
    waker = Waker(store)
    assert waker.wait(1)  # the first look: anything may have happened before
    seconds, pause, other = [], threading.Event(), ThreadPoolExecutor(1)
    for _ in range(20):
        while waker.wait(0):
            pass
        committed = other.submit(lambda: pause.wait(0.02) or wish(elsewhere))
        assert waker.wait(5)
        seconds.append(time.monotonic() - committed.result())
    waker.close()
    other.shutdown()
    elsewhere.close()
    print(f"\n{store.backend}: woken {1000 * statistics.median(seconds):.1f} ms after the commit (median of 20), "
          f"worst {1000 * max(seconds):.1f} ms")
    assert statistics.median(seconds) < 0.1


def test_nothing_is_missed_between_two_waits(store, load_balancer):
    load_balancer()
    waker = Waker(store)
    waker.wait(1)
    wish(store)
    assert waker.wait(0.5)
    waker.close()


def test_silence_ends_with_the_timeout(store):
    waker = Waker(store)
    waker.wait(1)
    began = time.monotonic()
    assert not waker.wait(0.1)
    assert 0.1 <= time.monotonic() - began < 1
    waker.close()


def test_closing_ends_a_wait(store):
    waker = Waker(store)
    waker.wait(1)
    waiter = threading.Thread(target=waker.wait, args=(60,))
    waiter.start()
    waker.close()
    waiter.join(5)
    assert not waiter.is_alive()
