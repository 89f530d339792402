"""Pages, /v1 and event streams: a folder a noun, with routes.py and page.py."""
