"""The `virnuc` command: a module a command, and what runs them in `main`; no work is done here."""
