"""The choices of a plan -> the fastest on this device, remembered."""
