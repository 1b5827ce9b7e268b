"""Grammars, in llama.cpp's GBNF, that an answer must follow."""
