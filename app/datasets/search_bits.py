"""How bits for searching are laid out: as the doctor writes them and search.py reads them."""

BLOCK_EXAMPLES = 64
NUM_BUCKETS = 2**16
NUM_BYTES = 4
HASH_FACTOR = 0x9E3779B1
