"""Files from the network: downloads over HTTP, digests, and records of where files came from."""
