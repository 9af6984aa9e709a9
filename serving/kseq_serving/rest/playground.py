"""Playground: a page at `/` of the REST port to try the served models in a browser.

The page calls the REST API like any client. Only the list of the models and the cards of the versions, see
`playground_card`, have paths of their own. The page's files are read when the server starts; a request reads no other
file than a card.
"""

from __future__ import annotations

import importlib.resources
import json
import re
import urllib.parse
from typing import Any

from kseq_serving.core import ServerCore
from kseq_serving.errors import ServingError
from kseq_serving.models.lifecycle import State
from kseq_serving.protocol.protos import ModelSpec
from kseq_serving.rest import playground_card
from kseq_serving.rest.api import HttpRequest, HttpResponse, RestApi, error_response

MODELS_PATH = "/playground/models"

_CARD_PATH = re.compile(rf"{MODELS_PATH}/(?P<model>[^/:]+)(?:/versions/(?P<version>[0-9]{{1,18}}))?")
_PAGE = "index.html"
_SCRIPTS = ("page.js", "card.js", "fields.js", "answer.js", "texts.js", "tables.js", "heat_map.js", "element.js")
_FILES = (_PAGE, *_SCRIPTS, "page.css", "icon.svg")
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
    "img-src": "'self' blob:",  # the chosen image
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    # A model's outputs can only become text in the page, never markup or scripts.
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
_HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # another server on this port may have another version of the page
}


class Playground(RestApi):
    """REST API with the page.

    Args:
        core: Models of the server.
        monitoring_path: URL path of the metrics; None to serve none.
    """

    def __init__(self, core: ServerCore, monitoring_path: str | None = None):
        super().__init__(core, monitoring_path)
        folder = importlib.resources.files("kseq_serving.rest") / "playground_assets"
        self._assets = {
            "/" if name == _PAGE else f"/playground/{name}": HttpResponse(
                200, {"Content-Type": _TYPES[name.rpartition(".")[2]], **_HEADERS}, (folder / name).read_bytes()
            )
            for name in _FILES
        }

    def _answer(self, request: HttpRequest) -> HttpResponse:
        if request.method in ("GET", "HEAD"):
            if request.path == MODELS_PATH:
                return _json_response({"models": self._models()})
            if card := _CARD_PATH.fullmatch(request.path):
                return self._card(card["model"], card["version"])
            if request.path in self._assets:
                return self._assets[request.path]
        return super()._answer(request)

    def _models(self) -> list[dict[str, Any]]:
        """Return the models that are available, with their available versions, newest first."""
        board = self._core.board
        available = {
            # Strings, as in TensorFlow Serving's JSON, since numbers in a browser have only 53 bits.
            name: [str(v) for v, status in board.versions(name).items() if status.state is State.AVAILABLE]
            for name in board.models()
        }
        return [{"name": name, "versions": versions} for name, versions in available.items() if versions]

    def _card(self, model: str, version: str | None) -> HttpResponse:
        spec = ModelSpec(name=urllib.parse.unquote(model, errors="replace"))
        if version:
            spec.version.value = int(version)
        try:
            with self._core.lease(spec) as servable:
                folder = servable.folder
        except ServingError as error:
            return error_response(error)
        return _json_response(playground_card.read(folder))


def _json_response(value: Any) -> HttpResponse:
    return HttpResponse(200, {"Content-Type": "application/json", **_HEADERS}, json.dumps(value).encode())
