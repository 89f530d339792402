"""The broker's address, in the words of those who go there."""


def for_redis_py(url: str) -> str:
    """Write REDIS_URL for redis-py, which names sockets differently from kombu."""
    return url.replace("redis+socket://", "unix://").replace("?virtual_host=", "?db=")
