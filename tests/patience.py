"""How long tests wait for what has to happen, on machines that are busy with other things."""

PATIENCE = 60.0  # seconds; only a test that fails takes as long
