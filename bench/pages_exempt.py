"""What a page may do that no other may; docs/performance.md names it."""

# The reference of /v1 is opened on purpose, by who writes programs: Swagger UI alone is 485 kB.
HEAVY = {"/help/api": {"first_bytes", "largest_paint_ms"}}
# Swagger UI's own structure; its colours and names are mended in api-reference.css and .js.
OTHERS_FAULTS = {"/help/api": {"aria-allowed-role", "heading-order", "nested-interactive"}}
