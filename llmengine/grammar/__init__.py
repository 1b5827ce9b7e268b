"""What an answer must follow: JSON schemas, expressions and grammars, compiled by llguidance."""
