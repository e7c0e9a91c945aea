"""The pose pipeline on many images: inputs, batches, checkpoints, results and reports."""
