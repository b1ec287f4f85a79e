"""False alarms, power and cost of drift detection, by simulation on real models and data."""
