import asyncio
import threading
from collections.abc import Iterator

import pytest
import uvloop

from tests.kseq_serving.conftest import Run


@pytest.fixture(scope="session")
def uvloop_run() -> Iterator[Run]:
    """Function that runs a coroutine on the event loop of the server, in another thread.

    It differs from asyncio's loop in when it begins to read, and in what it sends at once.
    """
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
