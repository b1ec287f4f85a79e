"""Float model + CalibrationTable -> INT8 model (.tflite)."""
