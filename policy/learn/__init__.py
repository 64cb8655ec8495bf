"""Where policies are trained: the only room with torch and numba. Serving never comes here."""
