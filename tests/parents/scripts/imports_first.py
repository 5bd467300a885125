"""A script that imports what gevent patches, and what builds on it, before all else."""

import asyncio
import concurrent.futures
import http.client
import multiprocessing
import queue
import socket
import ssl
import sys
import threading

import requests
import urllib3

from hybridexec import HybridExecutor

assert issubclass(urllib3.PoolManager, object)
assert issubclass(http.client.HTTPSConnection, object)
LOCK = threading.Lock()
QUEUE = queue.Queue()
CONTEXT = ssl.create_default_context()


def patched():
    import gevent.socket
    import gevent.ssl

    return socket.socket is gevent.socket.socket, ssl.SSLContext is gevent.ssl.SSLContext


def ssl_context():
    # These recurse for ever in a process that imported ssl before it was patched.
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION
    CONTEXT.minimum_version = ssl.TLSVersion.TLSv1_3
    return context.minimum_version.name, CONTEXT.minimum_version.name


def nobody_there(fetch_name):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # but never listens
        url = f"https://127.0.0.1:{bound.getsockname()[1]}/"
        try:
            if fetch_name == "requests":
                requests.get(url, timeout=10)
            else:
                urllib3.PoolManager().request("GET", url, retries=False, timeout=10)
        except (requests.ConnectionError, urllib3.exceptions.HTTPError) as error:
            return type(error).__name__


def event_loop(number):
    async def work():
        await asyncio.sleep(0.01)
        return number

    return asyncio.run(work())


def main():
    context = multiprocessing.get_context(sys.argv[1])
    with HybridExecutor(1, context) as executor:
        print("patched:", *executor.submit(patched).result())
        print("ssl:", *executor.submit(ssl_context).result())
        print("requests:", executor.submit(nobody_there, "requests").result())
        print("urllib3:", executor.submit(nobody_there, "urllib3").result())
        futures = [executor.submit(event_loop, number) for number in range(20)]
        concurrent.futures.wait(futures)
        print("asyncio:", [future.result() for future in futures] == list(range(20)))
        print("monkey-patched here:", "gevent" in sys.modules)


if __name__ == "__main__":
    main()
