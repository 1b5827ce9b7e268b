"""The engine in a process of its own, which may die while its requests go on."""
