"""Names of what a training leaves in its folder, for the trainer that writes it and for whoever reads it."""

from __future__ import annotations

#: Averaged weights at the end of the schedule, or where it was stopped; those that scored best on the valid split.
LAST, BEST = "last.safetensors", "best.safetensors"
#: The settings, which repeat the training.
CONFIG = "config.yaml"
#: Only there while a training is unfinished.
RESUME = "resume.pt"
#: The bank of clustered prototypes that the training built for itself.
BANK = "bank.safetensors"
#: One JSON object a line: the losses of a step, or how the network did on the valid split.
METRICS = "metrics.jsonl"
#: Folder of pictures ``step-000123.png``.
PREVIEWS = "previews"
#: Folder of TensorBoard events.
EVENTS = "tensorboard"
