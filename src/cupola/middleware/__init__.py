"""Features of steps, each one small file that wraps the call of a step's function; `worker.MIDDLEWARE` lists them.

A middleware is a function of an `Attempt` and of what comes next; it returns what the user's function returned, or lets
its exception through. `applies` says for which steps it is worth being in the way.
"""
