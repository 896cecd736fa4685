"""Logs that hold the means of a step and no trajectory: TensorBoard, W&B, and lines of JSON."""
