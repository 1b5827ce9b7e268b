"""The only package that calls llama.cpp."""
