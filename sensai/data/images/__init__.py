"""Image files as arrays: decoded, fitted to the size of a network, one by one or from a stream."""
