"""The mind: decides, keeps the books, simulates. No sockets, files, environment, clock or dice of its own."""
