"""Files from the network: fetched over HTTP, known by their digests, recorded when they first came."""
