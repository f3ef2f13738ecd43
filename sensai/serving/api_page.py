"""The page that shows the interface of a server, and lets people try it. It loads nothing from elsewhere."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, Template

_TEMPLATE = Path(__file__).with_name("api_page.html")

_IMAGES = {
    "type": "object",
    "description": "One of the two keys, with images in the type and shape of the version: (N, H, W, C) by default.",
    "properties": {"inputs": {"type": "array", "items": {}}, "instances": {"type": "array", "items": {}}},
    "minProperties": 1,
    "maxProperties": 1,
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
# The request of /invocations, as OpenAPI describes it.
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "image/jpeg": _BINARY,
            "image/png": _BINARY,
            "image/webp": _BINARY,
            "application/octet-stream": {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": "A .npy file: images (N, ...), or one image.",
                }
            },
            "application/json": {"schema": _IMAGES},
        },
    }
}
# Its responses.
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "For each image the probability of every class; `none_of_them` where images can be rejected",
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"predictions": {"type": "array", "items": {}}}}
            }
        },
    },
    400: {"description": "Other images than the version takes; the message has the reason"},
    401: {"description": "The token is missing or wrong"},
    408: {"description": "The body did not arrive in time"},
    413: {"description": "The body is too large"},
    415: {"description": "Another content type"},
    503: {"description": "The members are loading, or did not answer in time"},
}


def render_page(schema: dict[str, Any]) -> str:
    """Return the page of an OpenAPI schema."""
    operations = [
        (method.upper(), path, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    return _template().render(info=schema["info"], operations=operations)


@cache
def _template() -> Template:
    return Environment(autoescape=True).from_string(_TEMPLATE.read_text(encoding="utf-8"))
