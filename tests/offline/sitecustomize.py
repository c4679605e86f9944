"""Keeps the processes that tests start off the network: connecting fails as on a machine without one."""

import errno
import os
import sys

HERE = {"", "127.0.0.1", "::1", "localhost", "0.0.0.0", "::", os.uname().nodename}


def refuse(event: str, arguments: tuple) -> None:
    if event == "socket.connect" and isinstance(arguments[1], tuple):  # a path is a socket on this machine
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0] or ""
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in HERE:
        raise OSError(errno.ENETUNREACH, "the tests have no network")


sys.addaudithook(refuse)
