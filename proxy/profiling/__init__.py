"""`bestserve profile`: from a running backend to the constants of its engine, with how far they can be trusted.

script    what is asked of the backend: calls with lengths, and what each waits for
plan      which scripts, in which order, within the time
backend   what the backend says of itself; how it wants to be asked; whether others use it
drive     a script against the backend: what came when (a Run)
runs      Runs as a file of lines, from which an interrupted profile goes on
points    Runs → points: what one time should be explained by
fit       points → constants with their errors
replay    a script against `policy.engine`: what should have come when
judge     predicted against measured; what must not be believed
write     the profile as TOML; old against new
report    tables, JSON
plots     pictures
session   the verb: all of the above in order
"""
