"""A page to try the served models in a browser, at ``/`` of the REST port.

The page asks the REST API as any client does; it gets only the names of the models from here. Its files are read when
the server starts, and a request can but choose among them.
"""

from __future__ import annotations

import importlib.resources
import json

from kseq_serving.core import ServerCore
from kseq_serving.models.lifecycle import State
from kseq_serving.rest.api import Answer, Call, RestApi

MODELS_PATH = "/playground/models"

_PAGE = "index.html"
_FILES = (_PAGE, "page.js", "fields.js", "answer.js", "heat_map.js", "element.js", "page.css", "icon.svg")
_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    # What a model answers can become text, and nothing else.
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
_HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # the next server on this port may have another page
}


class Playground(RestApi):
    """The REST API with the page.

    Args:
        core: the models.
        monitoring_path: where the metrics are; None for nowhere.
    """

    def __init__(self, core: ServerCore, monitoring_path: str | None = None):
        super().__init__(core, monitoring_path)
        folder = importlib.resources.files("kseq_serving.rest") / "playground_assets"
        self._assets = {
            "/" if name == _PAGE else f"/playground/{name}": Answer(
                200, {"Content-Type": _TYPES[name.rpartition(".")[2]], **_HEADERS}, (folder / name).read_bytes()
            )
            for name in _FILES
        }

    def answer(self, call: Call) -> Answer:
        """Answers one call; never raises."""
        if call.method in ("GET", "HEAD"):
            if call.path == MODELS_PATH:
                return Answer(200, {"Content-Type": "application/json", **_HEADERS}, self._models())
            if call.path in self._assets:
                return self._assets[call.path]
        return super().answer(call)

    def _models(self) -> bytes:
        """The models that answer now, with the numbers of their versions, newest first."""
        board = self._core.board
        available = {
            # Strings, as in TensorFlow Serving's JSON: a browser's numbers have 53 bits.
            name: [str(v) for v, status in board.versions(name).items() if status.state is State.AVAILABLE]
            for name in board.models()
        }
        models = [{"name": name, "versions": versions} for name, versions in available.items() if versions]
        return json.dumps({"models": models}).encode()
