"""`make demo`: the main job with everything embedded, step by step, each checked."""
