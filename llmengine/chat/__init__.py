"""What lies between messages and tokens: templates before the engine, parsing after it."""
