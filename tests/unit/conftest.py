import http.server
import threading

import numpy as np
import pytest

from tests.forms import square


@pytest.fixture(scope="session")
def tiny_network():
    """The network ``tiny``, 32 pixels a side, untrained."""
    from buckler.models.networks.base import HeadShape
    from buckler.models.networks.tiny import TINY

    return TINY.build(square(32), 2, head=HeadShape((16, 8)), seed=1)


@pytest.fixture(scope="session")
def tiny_classifier(tiny_network):
    from buckler.models.classifier import Classifier

    return Classifier(tiny_network, batch_size=4)


@pytest.fixture(scope="session")
def tiny_pictures():
    """Eleven 8-bit noise pictures, so that the last batch of four is not full, and their labels."""
    generator = np.random.default_rng(4)
    return generator.integers(0, 256, (11, 32, 32, 3)).astype(np.float32) / 255, np.arange(11) % 2


@pytest.fixture(scope="session")
def exported(tiny_network, tiny_pictures, tmp_path_factory):
    """A directory with the same network, exported; it may serve in every precision."""
    from buckler.models import export
    from buckler.models.runtime import RuntimeInfo

    directory = tmp_path_factory.mktemp("runtime")
    export.write(tiny_network, tiny_pictures[0], directory)
    RuntimeInfo(("int8", "bfloat16", "float32"), "test").save(directory)
    return directory


@pytest.fixture(scope="session")
def fragile():
    """A trained classifier that an attack breaks, its network, pictures it has not seen and their labels."""
    from tests.unit import small

    classifier, network = small.train(2)
    return classifier, network, *small.pictures(2, 40, seed=2)


@pytest.fixture
def fake_networks(monkeypatch):
    """Let promotions take the releases of `tests.projects`, whose network is a few bytes that nobody can load."""
    from buckler.serving import loadable

    monkeypatch.setattr(loadable, "flaws", lambda release: ())


@pytest.fixture
def file_server():
    """A function from {name: bytes} to the address of a real HTTP server that has them."""
    servers = []

    def serve(files):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                content = files.get(self.path.strip("/"))
                self.send_response(200 if content is not None else 404)
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()
