"""The hands: sockets, files, processes. Nothing clever."""
