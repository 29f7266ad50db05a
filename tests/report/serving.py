"""A gallery served from a thread, for tests."""

import contextlib
import socket
import threading
import time

import uvicorn

from jaxseg_xai.report.serve import gallery_app


@contextlib.contextmanager
def served(open_store):
    """The address of the gallery of a store, while the block runs."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        place.listen()
        server = uvicorn.Server(uvicorn.Config(gallery_app(open_store), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{place.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()
