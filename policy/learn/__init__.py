"""Where policies and classifiers are trained: the only room with torch and numba. Serving never comes here."""
