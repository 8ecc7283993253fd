"""What the scripts with py-consul share; it stands before each of them."""

import threading
import time

import consul
from consul.callback import CB
from consul.exceptions import ACLPermissionDenied, BadRequest, ConsulException


def refused(kind, words, call, *arguments, **named):
    try:
        answer = call(*arguments, **named)
    except kind as error:
        assert words in str(error), (words, str(error))
        return
    raise AssertionError((call, answer))


def indexed(client, path, **parameters):
    headers = client.prepare_headers()
    index, body = client.http.get(CB.json(index=True), path, params=list(parameters.items()), headers=headers)
    return int(index), body
