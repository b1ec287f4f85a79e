"""An INT8 (or float) .tflite model -> an Engine that answers requests on this box."""
