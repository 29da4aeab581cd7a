"""`DaebusHttp`, what its handlers see and how it encodes, where the original has them."""

from __future__ import annotations

import json
from typing import Any

from daebus_runtime import DaebusHttp, HttpRequest, HttpResponse, codec


class DaebusJSONEncoder(json.JSONEncoder):
    """For `json.dumps(…, cls=DaebusJSONEncoder)`: datetimes, sets, dataclasses and the like as replies have them."""

    def default(self, o: Any) -> Any:
        return make_json_serializable(o)


def make_json_serializable(obj: Any) -> Any:
    """What a client would get: only dicts, lists, texts, numbers, booleans and None. TypeError for what has no JSON
    form."""
    return codec.loads(codec.dumps(obj))


__all__ = ["DaebusHttp", "DaebusJSONEncoder", "HttpRequest", "HttpResponse", "make_json_serializable"]
