"""Models that learn, on torch: what needs them imports them from here, and nothing else in vsat loads torch."""

WEIGHTS, CONFIG, CALIBRATION = "model.safetensors", "config.json", "calibration.json"  # files of a checkpoint
