"""The commands by group; each module has ``register(app)``."""
