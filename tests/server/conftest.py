"""A small server of the tiny model, in this process."""

import pytest

from open_imagen.server.api import make_app
from open_imagen.server.auth import parse_keys
from open_imagen.server.gallery import Gallery
from open_imagen.server.middleware import Counters
from open_imagen.server.service import Service
from open_imagen.server.worker import Worker
from server.browser import served
from standins import make_cascade


@pytest.fixture
def tiny():
    return make_cascade()


@pytest.fixture
def serve(tiny, tmp_path):
    """Start a server: serve(**settings of the service) -> its address and service."""
    opened = []

    def start(queue_size=64, batch_size=4, keys=None, cascades=None, limits=None, **settings):
        counters = Counters()
        cascades = cascades or {"tiny": tiny}
        service = Service(
            cascades=cascades,
            worker=Worker(cascades, batch_size, queue_size, counters),
            gallery=Gallery(tmp_path / f"gallery-{len(opened)}"),
            counters=counters,
            keys=parse_keys(keys) if keys else None,
            **settings,
        )
        context = served(make_app(service), limits=limits)
        opened.append((service, context))
        return context.__enter__(), service

    yield start
    for service, context in opened:
        context.__exit__(None, None, None)
        service.worker.close(30)
        service.gallery.close()
