"""A worker whose calls are greenlets: it is patched with gevent, and its main thread is the hub."""
