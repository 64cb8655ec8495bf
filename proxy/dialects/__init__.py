"""Translation between bytes and facts, one wire a file, without input or output."""
