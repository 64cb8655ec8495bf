"""What all tests share."""

from hypothesis import settings

settings.register_profile("house", deadline=None)  # machines are noisy; a test that hangs is ended by its time limit
settings.load_profile("house")
